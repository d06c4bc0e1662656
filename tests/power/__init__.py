"""A power cut at any moment: what is said to be finished is there afterwards, and nothing is torn.

`recorder.py` watches a directory while real code works in it, `disk.py` says what the disk may hold
after a cut at each moment, `cuts.py` puts such states down and asks the real readers about them.
"""
