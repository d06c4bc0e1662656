"""The flows and the command line: which tasks run, in which order, behind which gate."""

from flows.environment import keep_libraries_quiet, keep_others_from_writing

keep_libraries_quiet()
keep_others_from_writing()
