"""Learning from people: what was released, what is new, what it made better and worse."""
