"""Near names: what a person probably meant by a name that there is not."""

from collections.abc import Iterable
from difflib import get_close_matches

_SHOWN = 12


def suggestion(name: str, names: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the name that was probably meant, or those that there are.

    >>> suggestion("creatinin", ("creatinine", "lactate")), suggestion("x", ("creatinine", "lactate"))
    ('did you mean creatinine?', 'there are creatinine, lactate')
    """
    candidates = list(names)
    if near := get_close_matches(name, candidates, n=1):
        return f"did you mean {near[0]}?"
    more = f" and {len(candidates) - _SHOWN} more" if len(candidates) > _SHOWN else ""
    return f"there are {', '.join(candidates[:_SHOWN])}{more}"
