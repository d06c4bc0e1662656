"""Files of this machine: written whole, locked, listed, and read as hostile input."""
