"""The commands of `kawan-usaha`, each in the module of its name.

A module holds what `--help` needs: the signature, the help, and how the result is printed. What
imports a large library is done by a module of `flows.actions`, imported inside the function.
"""
