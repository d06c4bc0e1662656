"""Composition: which tasks run, in which order, on which gate. Nothing else happens here."""
