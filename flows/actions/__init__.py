"""The work of the commands, after their arguments are parsed.

A module here imports what its work needs: torch, the Hub, an engine. So a command imports its
action when it runs, as the only import inside its function, and `--help` stays fast.
"""
