"""Edits of the architecture, and whether a model can have them.

kinds        each kind of edit: what it writes, what it changes in memory, what proves it
selection    the layers and activations that a recipe names, checked without torch
activations  transformers' activation functions: which can be used, and telling them apart
"""
