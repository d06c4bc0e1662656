"""What a person sees of a run or a command on the terminal: its lines, its log, its errors."""
