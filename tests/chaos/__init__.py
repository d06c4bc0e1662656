"""The whole recipe, killed at random moments, resumed by an operator, until it ends."""
