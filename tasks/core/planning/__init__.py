"""What a recipe needs, by formula, before anything is loaded: disk, memory, network and time.

Arithmetic on a model's shape and on a machine that the `machine` package describes; the result says
of each stage whether it fits. Never imports torch or transformers. docs/planning.md holds the
formulas, their sources, and how far they are from published and measured figures.

Read `plan` first, then `stages` and `training_fit`; the formulas are in `training_memory`,
`activations`, `serving` and `times`, all on a `shape`.
"""
