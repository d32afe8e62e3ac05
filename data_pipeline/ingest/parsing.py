"""Parsing of an extract's texts: nulls, identifiers, words, numbers, bounds and ICD codes, over Arrow columns.

Every function is pure: columns in, columns of the same length out, null where a text says nothing or can't be read.
``strings`` (or ``identifiers``, or ``words``) comes first, and the other functions, those of ``timestamps`` too, take
what it returns.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

NULL_WORDS = (
    "NULL", "(NULL)", "[NULL]", "<NULL>", "\\N", "NONE", "(NONE)", "<NONE>", "NIL", "NA", "N/A", "N.A.", "<NA>", "NAN",
    "NAT", "(BLANK)", "(EMPTY)", "#N/A", "#NULL!", "#VALUE!", "#REF!", "#DIV/0!", "#NUM!", "#NAME?", ".", "..", "...",
    "-", "--", "---", "\u2010", "\u2011", "\u2012", "\u2013", "\u2014", "\u2015", "\u2212", "?", "??", "???",
)  # fmt: skip
"""What databases, spreadsheets, pandas, R, SAS and people write for nothing, in upper case; a source may declare
others."""

UNLISTED = "OTHER"
"""The category of a word that no list of the source has; bronze counts such words."""


_PADDING = " \t\n\v\f\r\0"

_RAISED = re.compile("[\u00b2\u00b3\u00b9\u2070-\u207f]+")
_CIRCLED = re.compile("[\u2460-\u2473\u24ea]")
_MICRO = re.compile("[\u00b5\u03bc](?=[A-Za-z])")


def fold(text: str) -> str:
    """A text in one spelling: compatibility characters as plain ones, single blanks, no invisible characters.

    >>> fold("\\u00a0EW\\tEMER.  "), fold("\\uff14\\uff12"), fold("HO\\u200bME")
    ('EW EMER.', '42', 'HOME')

    A raised digit, or one in a circle, is no number and no digit of the one before it: it is a power, or points to a
    footnote. The sign of a unit's millionth is the letter u.

    >>> fold("10\u00b3/\u00b5L"), fold("7.4\u00b9"), fold("7.4\u2460"), fold("\u03bcmol/L")
    ('10^3/uL', '7.4^1', '7.4 (1)', 'umol/L')
    """
    if text.isascii():
        return " ".join(text.split())
    apart = _CIRCLED.sub(r" (\g<0>)", _RAISED.sub(r"^\g<0>", _MICRO.sub("u", text)))
    plain = unicodedata.normalize("NFKC", apart)
    return " ".join("".join(c for c in plain if unicodedata.category(c) != "Cf").split())


def strings(column: pa.Array, null_words: Sequence[str] = NULL_WORDS) -> pa.Array:
    """Texts without what pads them; null where nothing is left, or only a word for nothing."""
    text = column.cast(pa.string())
    if pc.all(pc.string_is_ascii(text)).as_py() is False:
        text = map_distinct(text, fold)
    text = pc.ascii_trim(text, characters=_PADDING)
    nothing = pc.is_in(pc.ascii_upper(text), value_set=pa.array(["", *null_words], pa.string()))
    return pc.if_else(nothing, pa.scalar(None, pa.string()), text)


def identifiers(column: pa.Array, null_words: Sequence[str] = NULL_WORDS) -> pa.Array:
    """Identifiers and codes; a whole number that was written as a fraction, ``11.0``, is ``11``. Zeros stay."""
    text = strings(column, null_words)
    if not pc.any(pc.match_substring(text, ".")).as_py():
        return text
    return pc.replace_substring_regex(text, r"^(-?[0-9]+)\.0*$", r"\1")


_REPLACED = "\ufffd"
"""What stands in a text for bytes that its encoding does not have."""
LOST = rf"^[0-9]([.,][0-9]+)?[eE][+][0-9]+$|{_REPLACED}"
"""Identifiers that a spreadsheet or a wrong encoding shortened: several patients may have one of them."""


def rounded(column: pa.Array) -> pa.Array:
    """Whether each identifier is one that digits or letters were lost of (``LOST``).

    >>> rounded(pa.array(["1.23E+11", "2,5e+07", "12300000000", "1E5", "M\ufffdller", None])).to_pylist()
    [True, True, False, False, True, None]
    """
    suspect = pc.match_substring_regex(column, f"[+{_REPLACED}]")
    if not pc.any(suspect).as_py():
        return suspect
    return pc.match_substring_regex(column, LOST)


def words(column: pa.Array, null_words: Sequence[str] = NULL_WORDS) -> pa.Array:
    """Words of a source, in upper case and with single blanks."""
    return map_distinct(identifiers(column, null_words), lambda text: fold(text).upper())


def categories(column: pa.Array, lists: Mapping[str, Sequence[str]]) -> pa.Array:
    """The category of each word: the first whose list has it, else the first that has a pattern of it (``*``).

    A word that no list has is ``UNLISTED``. ``column`` is as ``words`` returns it.
    """
    exact = {
        fold(word).upper(): name for name, patterns in reversed(list(lists.items())) for word in patterns
    }
    compiled = [(name, matcher(patterns)) for name, patterns in lists.items()]

    def category(word: str) -> str:
        category_name = exact.get(word) or next((name for name, matches in compiled if matches(word)), None)
        return category_name or UNLISTED

    return map_distinct(column, category)


def unlisted(column: pa.Array, lists: Mapping[str, Sequence[str]]) -> int:
    """How many rows have a word that no list has. ``column`` is as ``words`` returns it."""
    every = [pattern for patterns in lists.values() for pattern in patterns]
    return int(pc.sum(pc.invert(matching(column, every)), min_count=0).as_py())


def matching(column: pa.Array, patterns: Sequence[str]) -> pa.Array:
    """Whether each text is one of the patterns, without regard to case, in which ``*`` stands for any characters."""
    return map_distinct(column, matcher(patterns), pa.bool_())


def voiding(column: pa.Array, patterns: Sequence[str]) -> pa.Array:
    """Whether each text is one of the patterns, in which a word after ``*`` is a whole one that nothing denies.

    >>> texts = pa.array(["4.1 (HEMOLYZED)", "Not hemolyzed", "unclotted"])
    >>> voiding(texts, ["*hemolyzed*", "*clotted*"]).to_pylist()
    [True, False, False]
    """
    return map_distinct(column, matcher(patterns, before_a_word=_UNDENIED), pa.bool_())


_BEFORE_A_WORD = re.compile(r"\\\*(?=\w)")
_UNDENIED = r".*(?<!\w)(?<!NOT )(?<!NO )(?<!NO LONGER )(?<!NON-)(?<!NEVER )(?<!WITHOUT )"


def matcher(patterns: Sequence[str], before_a_word: str = ".*") -> Callable[[str], bool]:
    """The test of ``matching``, for one text; ``before_a_word`` is the expression that ``*`` stands for there."""
    folded = (_BEFORE_A_WORD.sub(lambda _: before_a_word, re.escape(fold(one).upper())) for one in patterns)
    expressions = [one.replace(r"\*", ".*") for one in folded]
    compiled = re.compile("|".join(expressions) if patterns else r"(?!)", re.DOTALL)
    return lambda text: compiled.fullmatch(fold(text).upper()) is not None


_NUMBER = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?"


def numbers(column: pa.Array) -> pa.Array:
    """Decimal numbers; ``NaN``, ``Infinity``, ``1d``, ``0x1f``, ``1,5``, a range or a number with a unit is none."""
    readable = pc.match_substring_regex(column, f"^{_NUMBER}$")
    clean = pc.if_else(readable, pc.ascii_ltrim(column, characters="+"), pa.scalar(None, pa.string()))
    value = clean.cast(pa.float64())
    return pc.if_else(pc.is_finite(value), value, pa.scalar(None, pa.float64()))


def with_points(column: pa.Array) -> pa.Array:
    """Texts with a point for each comma, and a comma for each point: it then marks thousands, and is no number.

    >>> numbers(with_points(pa.array(["1,5", "7", "1.500", "1.5"]))).to_pylist()
    [1.5, 7.0, None, None]
    """
    return map_distinct(column, lambda text: text.translate(_SWAPPED))


_SWAPPED = str.maketrans(",.", ".,")

_OR_EQUAL = r"( ?(OR|/) ?(EQUALS?( TO)?|=))?"
_BELOW = (
    rf"<=?|[≤≦⩽≲]|=<|<{_OR_EQUAL}|&(LT|LE|#60);=?|(IS )?(LESS|SMALLER|LOWER|FEWER) THAN{_OR_EQUAL}|"
    r"(NOT|NO) (MORE|GREATER|HIGHER) THAN|BELOW|UNDER|UP TO|AT MOST|LT|LE"
)
_ABOVE = (
    rf">=?|[≥≧⩾≳]|=>|>{_OR_EQUAL}|&(GT|GE|#62);=?|(IS )?(GREATER|MORE|LARGER|HIGHER) THAN{_OR_EQUAL}|"
    r"(NOT|NO) (LESS|FEWER|LOWER) THAN|ABOVE|OVER|EXCEEDS|AT LEAST|GT|GE"
)
_BOUND = re.compile(
    rf"(?:(?P<below>{_BELOW})|(?P<above>{_ABOVE})) ?(?P<number>{_NUMBER})(?: ?(?P<unit>MM HG|[A-Z%°][A-Z0-9%/*^.]*))?"
)


class Bounds(NamedTuple):
    """What results say that are bounds, in columns; null for all others."""

    sign: pa.Array
    """``<`` or ``>``."""
    number: pa.Array
    unit: pa.Array
    """In small letters, where the text names one."""


def bounds(column: pa.Array) -> Bounds:
    """Results that are bounds, in signs or words.

    >>> found = bounds(pa.array(["<10", "LESS THAN 0.5", "≧ 20 NG/ML", "&lt;5", "> or = 5", "7", "3-5", "1+"]))
    >>> found.sign.to_pylist(), found.number.to_pylist()
    (['<', '<', '>', '<', '>', None, None, None], [10.0, 0.5, 20.0, 5.0, 5.0, None, None, None])
    >>> found.unit.to_pylist()[:3]
    [None, None, 'ng/ml']
    """
    matches = {text: _BOUND.fullmatch(fold(text).upper()) for text in pc.unique(column).to_pylist() if text}
    sign = {text: "<" if match["below"] else ">" for text, match in matches.items() if match}
    number = {text: float(match["number"]) for text, match in matches.items() if match}
    unit = {text: match["unit"].lower() for text, match in matches.items() if match and match["unit"]}
    return Bounds(
        map_distinct(column, sign.get),
        map_distinct(column, number.get, pa.float64()),
        map_distinct(column, unit.get),
    )


IcdKind = Literal["diagnosis", "procedure"]

_VERSION = re.compile(r"(?:ICD ?-?)?0?(9|10)(?:\.0+)?(?: ?-?(?:CM|PCS))?")
_SYSTEM = {("9", "diagnosis"): "ICD9CM", ("10", "diagnosis"): "ICD10CM", ("9", "procedure"): "ICD9PCS",
           ("10", "procedure"): "ICD10PCS"}  # fmt: skip
_SPELLING = {
    "ICD9CM": re.compile(
        r"([0-9]{3}|V[0-9]{2})\.?[0-9]{0,2}|E[089][0-9]{2}\.?[0-9]?|E[089][0-9]\.[0-9]{1,2}"
    ),
    "ICD10CM": re.compile(r"[A-Z][0-9][0-9AB]\.?[0-9A-Z]{0,4}"),
    "ICD9PCS": re.compile(r"[0-9]{2}\.?[0-9]{0,2}"),
    "ICD10PCS": re.compile(r"[0-9A-HJ-NP-Z]{7}"),
}
"""With the dot, where one is written: at another place it belongs to another system's code.

Of ICD-9's E codes some exports put it after three characters, as of all codes; none begins with 1 to 7: ``E11.9`` is
diabetes by ICD-10."""
_REMARK = re.compile(r"[0-9A-Z] +[A-Z]$")
"""A letter apart after a code says how sure it is: ``I50.9 A`` was ruled out."""
_ZEROS = {"ICD9CM": 3, "ICD9PCS": 2}
"""Digits before the dot of a numeric code, which a spreadsheet may have taken for a number."""


def icd_codes(code: pa.Array, version: pa.Array, kind: IcdKind) -> pa.Array:
    """ICD codes in one spelling with their system; null where version or spelling is none of the ICD's.

    Blanks, case and dots don't matter, and zeros that a dotted ICD-9 code lost are given back. A code without a dot
    that lost a zero can't be told from another code.

    >>> codes, versions = ["428.0", " i50.9", "38.9", "I509"], ["9.0", "10", "9", "11"]
    >>> icd_codes(pa.array(codes), pa.array(versions), "diagnosis").to_pylist()
    ['ICD9CM//4280', 'ICD10CM//I509', 'ICD9CM//0389', None]
    """
    pairs = pc.binary_join_element_wise(version, code, "\t")
    return map_distinct(pairs, partial(_icd, kind))


def _icd(kind: IcdKind, pair: str) -> str | None:
    version, _, code = pair.partition("\t")
    match = _VERSION.fullmatch(fold(version).upper())
    if not match:
        return None
    system = _SYSTEM[match[1], kind]
    written = fold(code).upper()
    plain = written.replace(" ", "").removesuffix(".")
    head, dot, tail = plain.partition(".")
    if system in _ZEROS and head.isdigit():
        plain = head.zfill(_ZEROS[system]) + dot + tail
    if _REMARK.search(written) or not _SPELLING[system].fullmatch(plain):
        return None
    return f"{system}//{plain.replace('.', '')}"


def map_distinct(
    column: pa.Array, function: Callable[[Any], Any], kind: pa.DataType | None = None
) -> pa.Array:
    """``function`` of each text, null for null; it is called once for each distinct text."""
    encoded = column.dictionary_encode()
    values = pa.array([function(text) for text in encoded.dictionary.to_pylist()], kind or pa.string())
    return values.take(encoded.indices)
