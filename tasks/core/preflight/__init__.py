"""Known before a run starts: what it needs, and every error that it would end with."""
