"""Composition: which tasks run, in which order, on which gate. Nothing else happens here."""

from flows.environment import keep_libraries_quiet, keep_others_from_writing

keep_libraries_quiet()
keep_others_from_writing()
