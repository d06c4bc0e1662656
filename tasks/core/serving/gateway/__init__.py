"""The process that clients talk to. It knows no torch, and runs no code of a model."""
