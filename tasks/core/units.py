"""Units of size and time: decimal where shown, binary where a driver counts in them."""

GB = 10**9
MIB = 1 << 20
GIB = 1 << 30


def readable(size_bytes: float) -> str:
    """Return a size for people: decimal GB with one digit, MB below 0.1 GB."""
    if abs(size_bytes) < GB / 10:
        return f"{size_bytes / 1e6:.0f} MB"
    return f"{size_bytes / GB:.1f} GB"


def about(seconds: float) -> str:
    """Return a time in words with one number: "about 40 seconds", "about 3 hours"."""
    for unit, length_s, limit in (("second", 1, 120), ("minute", 60, 120), ("hour", 3600, 48)):
        if seconds < limit * length_s:
            return _counted(seconds / length_s, unit)
    return _counted(seconds / 86400, "day")


def _counted(number: float, unit: str) -> str:
    count = max(1, round(number))
    return f"about {count} {unit}{'' if count == 1 else 's'}"
