"""The two files that travel inside an edited model directory, as type-checked source.

They are copied byte for byte and must run wherever the model is loaded: they import torch and
transformers and nothing else, neither this package nor each other but by a relative import.
"""
