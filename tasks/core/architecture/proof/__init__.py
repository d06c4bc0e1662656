"""The proof that an edit is alive, made in a fresh process."""
