"""What this machine computes with: the CPU's arithmetic, and how fast it is.

The one place that knows which types a CPU multiplies natively. Planning, evaluation, serving and
the benchmarks ask here. Only `probe`, which runs in a process of its own, imports torch.
"""
