"""Weights on the disk, read and written as a stream: merge and fuse in constant memory.

    merge, fuse            delta addition, LoRA fusing
    ahead                  a merge that starts while its inputs are being downloaded
    adapter, adapter_*     a PEFT adapter: its configuration, tensors, and what cannot be fused
    model_check            whether a directory holds a complete model
    index, weight_files    which tensor lies where, from headers alone
    companions             the files beside the weights: kinds, selection, copies
    stream, produce        the engine: pieces of a few megabytes through a pool of threads
    reader, writer, direct, layout, journal   what the engine reads and writes with

Does not build modules and does not know what a layer computes: neither transformers nor peft is
imported here.

The invariant: a weight file under its journal's or manifest's digest has exactly the bytes that an
undisturbed run would have written; memory depends on the threads, never on the model.
"""
