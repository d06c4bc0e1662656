"""The review of collected answers: what comes next, what was decided, and what is learned of it."""
