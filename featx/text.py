"""Numbers as people read them: counts, bytes and durations with their unit, and plurals."""

from __future__ import annotations

_STEPS = ("", "k", "M", "G", "T", "P", "E")


def human_count(n: float) -> str:
    """Return a count with three digits and a power of 1000.

    Examples
    --------
    >>> human_count(999), human_count(4_089_284_608)
    ('999', '4.09 G')
    """
    value, step = _scaled(n)
    return f"{value} {step}".rstrip()


def human_bytes(n: float) -> str:
    """Return bytes with three digits and a power of 1000.

    Examples
    --------
    >>> human_bytes(0), human_bytes(82_000_000)
    ('0 B', '82 MB')
    """
    value, step = _scaled(n)
    return f"{value} {step}B"


def counted(n: int, one: str, many: str) -> str:
    """Return how many there are of something.

    Examples
    --------
    >>> counted(1, "entry", "entries"), counted(1200, "entry", "entries")
    ('1 entry', '1,200 entries')
    """
    return f"{n:,} {one if n == 1 else many}"


def human_seconds(seconds: float) -> str:
    """Return a duration with the units that matter.

    Examples
    --------
    >>> human_seconds(0.1234), human_seconds(125), human_seconds(7260)
    ('0.12 s', '2 min 05 s', '2 h 01 min')
    """
    if seconds < 9.95:
        return f"{seconds:.2g} s" if seconds >= 0.001 else "0 s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def _scaled(n: float) -> tuple[str, str]:
    """Return a number with three digits, and the letter of its power of 1000."""
    value, step = float(n), 0
    # 999.5 is 1000 with three digits.
    while abs(value) >= 999.5 and step < len(_STEPS) - 1:
        value /= 1000
        step += 1
    return f"{value:.3g}", _STEPS[step]
