"""Mutation tests: a test must fail when a line of the core says something else.

`make mutants` changes one comparison, constant, operator, condition, `return` or `raise` at a time
in the modules of `targets.py` and runs the tests that execute the changed line. A mutant that all
of them let pass is a survivor: it needs a test, or an entry in `equivalent.yaml` with the reason
why no test can tell it from the original.

Code that runs in a process of its own is not changed there; only what a test runs in its own
process counts. Removed syncs are the business of `tests/power`.
"""
