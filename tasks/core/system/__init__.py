"""The operating system: cores, threads, the clock, memory, and its errors in words."""
