"""What a recipe needs before anything is loaded: bytes, memory and time, by formula.

Covers the disk, the host's memory, the GPUs' memory, the network and a rough time of each stage,
and says plainly whether they fit. Only `hardware.py` looks at the machine; everything else is
arithmetic on a model's shape. Never imports torch or transformers. docs/planning.md holds the
formulas, their sources, and how far they are from published and measured figures.
"""
