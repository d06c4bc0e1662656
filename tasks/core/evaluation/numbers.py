"""Numbers formatted for people, the same in the report and the summary."""

import math

_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_PLAIN_BELOW = 1e6
_SMALL = 1e-4


def number(value: float) -> str:
    """Return 52.98, 1,234.50, 4.05 × 10¹⁶, ∞ or `not a number`."""
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if abs(value) < _PLAIN_BELOW:
        return f"{value:,.2f}"
    return _scientific(value)


def four_digits(value: float) -> str:
    """Return 0.8526 or 1.22 × 10⁻¹⁵: significant digits, whatever the magnitude."""
    if value == 0 or not math.isfinite(value) or _SMALL <= abs(value) < _PLAIN_BELOW:
        return f"{value:.4g}"
    return _scientific(value)


def _scientific(value: float) -> str:
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPT)}"


def change(before: float, after: float) -> str:
    """Return the change from before to after: +4.5 %, or × 12.00 and ÷ 12.00 beyond tenfold."""
    if not (math.isfinite(before) and math.isfinite(after)) or 0 in (before, after):
        return "-"
    ratio = after / before
    if 0.1 < ratio < 10:
        return f"{100 * (ratio - 1):+.1f} %"
    return f"× {number(ratio)}" if ratio >= 10 else f"÷ {number(before / after)}"


def memory(size_bytes: float) -> str:
    """Return 842 MB or 2.09 GB."""
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB"
