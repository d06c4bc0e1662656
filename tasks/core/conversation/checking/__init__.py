"""Which records are fit to train on, and what to do about the others.

`screening` applies every rule to all files together; `chunk_check` applies those that need one
record at a time. `duplicates` and `leaks` compare records by their `signatures`. `summary`,
`remedies`, `picture` and `check_command` say what was found.
"""
