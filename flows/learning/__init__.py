"""What the flows `learn` and `learn-watch` are made of."""
