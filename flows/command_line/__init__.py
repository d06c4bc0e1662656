"""What all commands share: the list of them, their options, their output."""
