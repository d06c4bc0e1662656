"""Faults by injection: what the user sees of each, and what the next run does.

`injector.py` lets one call of this process fail, `survey.py` each call of a piece of work in turn;
`small_disk.py` makes a real file system without room. The tests are the lines of the table in
`docs/faults.md`.
"""
