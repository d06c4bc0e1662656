"""Units of size: decimal for what is shown and sold, binary where the driver counts in it."""

GB = 10**9
MIB = 1 << 20
GIB = 1 << 30


def readable(size_bytes: float) -> str:
    """Return a size as it is shown to people: decimal GB with one digit, MB below 0.1 GB."""
    if abs(size_bytes) < GB / 10:
        return f"{size_bytes / 1e6:.0f} MB"
    return f"{size_bytes / GB:.1f} GB"
