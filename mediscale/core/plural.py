"""The plural of a noun beside its number, for sentences that a person reads."""

import re


def counted(n: int, noun: str) -> str:
    """A number and its noun.

    >>> counted(1, "prediction"), counted(1155, "prediction"), counted(0, "entry")
    ('1 prediction', '1,155 predictions', '0 entries')
    """
    if n == 1:
        return f"1 {noun}"
    many = f"{noun[:-1]}ies" if re.search("[^aeiou]y$", noun) else f"{noun}s"
    return f"{n:,} {many}"
