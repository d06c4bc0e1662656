"""What the operating system gives and refuses: cores, threads, the clock, its errors."""
