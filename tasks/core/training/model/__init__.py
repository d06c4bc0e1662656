"""The model that is trained: how it is loaded, and faster versions of some of its parts."""
