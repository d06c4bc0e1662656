"""Edits of the architecture: which there are, and whether a model can have them."""
