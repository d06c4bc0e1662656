"""Weights on the disk, read and written as a stream: merge, fuse and convert in constant memory.

Covers the index of a model directory, a reader and a writer that work on pieces of a few
megabytes, and the functions that are given to them: delta addition (`merge`), LoRA fusing
(`fuse`) and change of dtype (`convert`). Does not build modules and does not know what a layer
computes: neither transformers nor peft is imported here.

The invariant: a weight file under its journal's or manifest's digest has exactly the bytes that an
undisturbed run would have written; memory depends on the threads, never on the model.
"""
