"""Whether a running deployment answers: its engine, its gateway, its page, its workers."""
