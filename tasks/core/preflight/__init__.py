"""Before a run starts: its plan, and every error that it would otherwise end with."""
