"""The machine: CPU, GPUs, memory and disk, how fast they are, and who uses them now.

The only package that looks at the hardware; planning, evaluation, training, serving and the
benchmarks ask here. Only `probe`, which runs in a process of its own, imports torch.
"""
