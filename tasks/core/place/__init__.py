"""A directory or bucket that files are brought to and fetched from."""

from tasks.core.place.place import Place

__all__ = ["Place"]
