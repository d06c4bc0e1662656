"""The process that clients talk to. It does not import torch, and runs no code of a model."""
