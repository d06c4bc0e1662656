"""A directory or bucket that files are brought to and fetched from."""

from tasks.core.place.place import Place
from tasks.core.place.purpose import PUBLISHING, Purpose

__all__ = ["PUBLISHING", "Place", "Purpose"]
