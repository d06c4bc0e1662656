"""The files of a deployment's collected answers: their names, their lines, and the lock on them."""
