"""Learning from people: a release, its new reviewed answers, and what training on them changed.

`pending` finds the releases with new answers, `released` the recipe to train, `reviewed_counts` and
`decisions` what no run has learned yet. `report` states why a new model is released or refused;
`changes`, `topics` and `questions` compare it with the release, and `rendering` writes the page.
"""
