"""Pattern beginnings: what a match of a regular expression can begin with, derived from the expression itself."""

import re
from collections.abc import Iterable
from itertools import accumulate
from re import _parser  # type: ignore[attr-defined]
from typing import Any, Literal, NamedTuple

NUMBER, CAPITAL = "0", "A"
"""Any digit, and any capital letter, as beginnings; the letters of words are small."""
_BOUNDARY = "|"
"""Where no letter follows a letter."""
_FEW = 8
"""A class of more letters is not spelled out."""


class Beginning(NamedTuple):
    """The letters that a match begins with, or its first character where that is no letter, and whether more follow."""

    letters: str
    is_word: bool
    """Whether the letters are a whole word; otherwise anything may follow."""


class _Head(NamedTuple):
    """The beginning of a part of an expression; behind ``next`` follows what the expression says next."""

    letters: str
    rest: Literal["next", "no letter", "anything"]


_NOTHING, _ANYTHING = _Head("", "next"), _Head("", "anything")


def beginnings(expression: str) -> frozenset[Beginning]:
    """All beginnings of the expression's matches.

    >>> [tuple(one) for one in sorted(beginnings(r"(?<!\\w)(?i:sons?)[: ]+[A-Z]|\\d+/\\d+|pag\\w*"))]
    [('0', False), ('pag', False), ('son', True), ('sons', True)]

    Raises:
        ValueError: its matches can begin with any character.
    """
    heads = _of_sequence(_parser.parse(expression))
    bare = {(letters.lstrip(_BOUNDARY), rest) for letters, rest in heads}
    found = {Beginning(letters, rest == "no letter" and letters.isalpha()) for letters, rest in bare}
    if any(not one.letters for one in found):
        raise ValueError(f"Matches of {expression[:40]!r} can begin with any character.")
    whatever = {one.letters for one in found if not one.is_word}
    return frozenset(one for one in found if whatever.isdisjoint(accumulate(one.letters[:-1])))


def without_case(letters: str) -> str:
    """The same for all letters that ``re.IGNORECASE`` takes for one, the Turkish ``İ`` and ``ı`` among them.

    >>> without_case("Wİfe"), without_case("ſıſter")
    ('wife', 'sister')
    """
    return letters.casefold().replace("i\u0307", "i").replace("ı", "i")


def _of_sequence(items: Iterable[tuple[Any, Any]]) -> set[_Head]:
    heads = {_NOTHING}
    for operation, argument in items:
        unfinished = {head for head in heads if head.rest == "next"}
        if not unfinished:
            break
        following = _of_item(str(operation), argument)
        heads -= unfinished
        heads |= {_joined(head.letters, then) for head in unfinished for then in following}
    return heads


def _joined(letters: str, then: _Head) -> _Head:
    if letters.strip(_BOUNDARY) and then.letters and not then.letters[0].islower():
        return _Head(letters, "anything" if then.letters == CAPITAL else "no letter")
    return _Head(letters + then.letters, then.rest)


def _of_item(operation: str, argument: Any) -> set[_Head]:
    match operation:
        case "LITERAL":
            return {_of_character(argument)}
        case "IN":
            return _of_class(argument)
        case "BRANCH":
            return {head for alternative in argument[1] for head in _of_sequence(alternative)}
        case "SUBPATTERN":
            _, added_flags, _, inside = argument
            heads = _of_sequence(inside)
            any_case = added_flags & re.IGNORECASE
            return {_ANYTHING if any_case and CAPITAL in head.letters else head for head in heads}
        case "ATOMIC_GROUP":
            return _of_sequence(argument)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            least, most, repeated = argument
            once = _of_sequence(repeated)
            if most != 1:
                once = {_Head(head.letters, "anything") if head.rest == "next" else head for head in once}
            return once if least else once | {_NOTHING}
        case "AT" if str(argument) == "AT_BOUNDARY":
            return {_Head(_BOUNDARY, "next")}
        case "ASSERT" | "ASSERT_NOT" | "AT":
            return {_NOTHING}
    return {_ANYTHING}


def _of_class(members: Iterable[tuple[Any, Any]]) -> set[_Head]:
    codes: set[int] = set()
    for operation, argument in members:
        match str(operation):
            case "LITERAL":
                codes.add(argument)
            case "RANGE":
                codes.update(range(argument[0], argument[1] + 1))
            case "CATEGORY" if str(argument) == "CATEGORY_DIGIT":
                codes.add(ord(NUMBER))
            case "CATEGORY" if str(argument) == "CATEGORY_SPACE":
                codes.update(b" \n")
            case _:
                return {_ANYTHING}
    letters = {code for code in codes if chr(code).isalpha()}
    heads = {_of_character(code) for code in (codes if len(letters) <= _FEW else codes - letters)}
    if len(letters) > _FEW:
        are_capital = all(chr(code).isupper() for code in letters)
        heads.add(_Head(CAPITAL, "anything") if are_capital else _ANYTHING)
    return heads


def _of_character(code: int) -> _Head:
    character = chr(code)
    if character.isalpha():
        return _Head(without_case(character), "next")
    return _Head(NUMBER if character.isdigit() else character, "no letter")
