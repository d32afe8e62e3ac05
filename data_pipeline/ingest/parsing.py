"""Parsing of an extract's texts: nulls, identifiers, words, numbers, bounds, times and ICD codes, over Arrow columns.

Every function is pure: columns in, columns of the same length out, null where a text says nothing or can't be read.
``strings`` (or ``identifiers``, or ``words``) comes first, and the other functions take what it returns.
Casts are stricter than those of Spark and pandas, which read ``2150`` as New Year's midnight and drop an offset.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from functools import cache, partial
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
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

    A raised digit, or one in a circle, is no digit of the number before it: it is a power, or points to a footnote. The
    sign of a unit's millionth is the letter u.

    >>> fold("10\u00b3/\u00b5L"), fold("7.4\u00b9"), fold("7.4\u2460"), fold("\u03bcmol/L")
    ('10^3/uL', '7.4^1', '7.4 1', 'umol/L')
    """
    if text.isascii():
        return " ".join(text.split())
    apart = _CIRCLED.sub(r" \g<0>", _RAISED.sub(r"^\g<0>", _MICRO.sub("u", text)))
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
    return pc.replace_substring_regex(strings(column, null_words), r"^(-?[0-9]+)\.0*$", r"\1")


def rounded(column: pa.Array) -> pa.Array:
    """Whether each identifier is a number that a spreadsheet shortened, so that its last digits are lost.

    >>> rounded(pa.array(["1.23E+11", "2,5e+07", "12300000000", "1E5", None])).to_pylist()
    [True, True, False, False, None]
    """
    return pc.match_substring_regex(column, r"^[0-9]([.,][0-9]+)?[eE]\+[0-9]+$")


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


def matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """The test of ``matching``, for one text."""
    folded = (re.escape(fold(pattern).upper()).replace(r"\*", ".*") for pattern in patterns)
    compiled = re.compile("|".join(folded) if patterns else r"(?!)", re.DOTALL)
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


YEARS = (1500, 3000)
"""Years that records, also shifted ones, are dated in: the first and the first after. Others stand for "never"."""

LONGEST = timedelta(days=3653)
"""Ten years: what lasts longer has an end, or a start, that stands for "never", such as 1900-01-01 or 2999-12-31."""

BEFORE_BIRTH, LIFE = timedelta(days=366), timedelta(days=430 * 365)
"""How long before a patient's birth, of which a source may tell only the year, and how long after it something of the
patient may be dated. MIMIC-III puts the births of the oldest 300 years back."""

_DAY = r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
_CLOCK = (
    r"[ T](?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]{1,9}))?)?"
)
_OFFSET = r" ?(?P<offset>Z|z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)?"


def times(column: pa.Array, zone: str) -> pa.Array:
    """Instants in UTC without zone, ``timestamp[us]``, of ``YYYY-MM-DD HH:MM[:SS[.f]][offset]``.

    A time with an offset is converted by it; one without is by the clock of ``zone``. A time that this clock skips is
    null, of one that it shows twice the later instant is taken, by which a fact can't be known too early. A date alone,
    a year alone, 24:00 and the 30th of February are null.
    """
    usual = _usual_times(column)
    if usual is not None:
        return pa.array(_to_utc(usual, zone))
    parts = _split(column, f"^{_DAY}{_CLOCK}{_OFFSET}$")
    local, offset = _local(parts), pc.fill_null(parts["offset"], "")
    stated = np.asarray(pc.not_equal(offset, "").to_numpy(zero_copy_only=False))
    return pa.array(np.where(stated, local - _offset_microseconds(offset), _to_utc(local, zone)))


_FORMAT = {
    "yyyy": r"(?P<year>[0-9]{4})", "MM": r"(?P<month>[0-9]{1,2})", "M": r"(?P<month>[0-9]{1,2})",
    "dd": r"(?P<day>[0-9]{1,2})", "d": r"(?P<day>[0-9]{1,2})", "HH": r"(?P<hour>[0-9]{1,2})",
    "H": r"(?P<hour>[0-9]{1,2})", "hh": r"(?P<half>1[0-2]|0?[1-9])", "h": r"(?P<half>1[0-2]|0?[1-9])",
    "mm": r"(?P<minute>[0-9]{2})", "ss": r"(?P<second>[0-9]{2})", "a": r"(?P<noon>[AaPp])[Mm]",
}  # fmt: skip
_TOKEN = re.compile(r"yyyy|MM?|dd?|HH?|hh?|mm|ss|a|[^A-Za-z]")


@cache
def time_pattern(time_format: str) -> re.Pattern[str]:
    """The pattern of times that are written as ``dd.MM.yyyy HH:mm`` or another format of Java's letters.

    Raises:
        ValueError: it has other letters, or no year, month and day.
    """
    tokens = _TOKEN.findall(time_format)
    if "".join(tokens) != time_format or not {"yyyy", "M", "d"} <= {
        t if t == "yyyy" else t[0] for t in tokens
    }:
        raise ValueError(
            f"{time_format!r} is no format of a time; write it with yyyy, MM, dd, HH (or hh and a), mm and ss"
        )
    return re.compile("".join(_FORMAT.get(token, re.escape(token)) for token in tokens))


def as_iso(column: pa.Array, time_format: str) -> pa.Array:
    """Times that a hospital writes in its own way, as ``times`` and ``dates`` read them; others are left as they are.

    >>> as_iso(pa.array(["3.1.2024 7:05", "31.12.2023 23:59", "never"]), "dd.MM.yyyy HH:mm").to_pylist()
    ['2024-01-03 07:05:00', '2023-12-31 23:59:00', 'never']
    >>> as_iso(pa.array(["1/31/2024 12:30 AM"]), "MM/dd/yyyy hh:mm a").to_pylist()
    ['2024-01-31 00:30:00']
    """
    pattern = time_pattern(time_format)
    return map_distinct(column, lambda text: _iso(pattern.fullmatch(text)) or text)


def _iso(match: re.Match[str] | None) -> str:
    if match is None:
        return ""
    part = match.groupdict()
    day = f"{part['year']}-{int(part['month']):02}-{int(part['day']):02}"
    if "hour" not in part and "half" not in part:
        return day
    hour = int(part["hour"]) if "hour" in part else int(part["half"]) % 12 + 12 * (part["noon"] in "Pp")
    return f"{day} {hour:02}:{part['minute']}:{part.get('second') or '00'}"


def dates(column: pa.Array, zone: str) -> pa.Array:
    """The beginnings of days by the clock of ``zone``, in UTC without zone, ``timestamp[us]``, of ``YYYY-MM-DD``.

    A time of day is dropped where it has no offset; a day with an offset is null, as whose day it is can't be said, and
    so is one whose time of day does not exist: 24:00 is of the day after.
    """
    local = _local(_split(column, f"^{_DAY}(?:{_CLOCK})?$"))
    return pa.array(_to_utc(local.astype("datetime64[D]").astype("datetime64[us]"), zone))


def check_zone(zone: str) -> None:
    """Raises ``ValueError`` where there is no such zone in the IANA database."""
    if zone not in available_timezones():
        raise ValueError(f"no time zone is called {zone}")
    ZoneInfo(zone)


def _split(column: pa.Array, pattern: str) -> dict[str, pa.Array]:
    parts = pc.extract_regex(column, pattern)
    return {parts.type.field(i).name: field for i, field in enumerate(parts.flatten())}


def _integers(column: pa.Array | None, length: int) -> Any:
    if column is None:
        return np.zeros(length, np.int64)
    text = pc.if_else(pc.equal(column, ""), "0", column)
    return np.asarray(pc.fill_null(text.cast(pa.int64()), 0).to_numpy(zero_copy_only=False))


def _local(parts: Mapping[str, pa.Array]) -> Any:
    """The wall clock's times as ``datetime64[us]``, NaT where there is no such day or time of day."""
    n = len(parts["year"])
    year, month, day, hour, minute, second = (
        _integers(parts.get(name), n) for name in ("year", "month", "day", "hour", "minute", "second")
    )
    fraction = parts.get("fraction")
    micro = (
        np.zeros(n, np.int64)
        if fraction is None
        else _integers(pc.utf8_slice_codeunits(pc.utf8_rpad(fraction, 6, "0"), 0, 6), n)
    )
    there = np.asarray(parts["year"].is_valid().to_numpy(zero_copy_only=False))
    return _moments(there, year, month, day, hour, minute, second, micro)


_USUAL = np.frombuffer(b"0000-00-00 00:00:00", np.uint8)
_DIGITS = np.flatnonzero(np.isin(_USUAL, ord("0")))


def _usual_times(column: pa.Array) -> Any:
    """What ``_local`` makes of ``YYYY-MM-DD HH:MM:SS``, read without a pattern; None where one is written otherwise."""
    there = np.asarray(column.is_valid().to_numpy(zero_copy_only=False))
    texts = column.drop_null().cast(pa.string())
    if pc.all(pc.equal(pc.binary_length(texts), len(_USUAL))).as_py() is not True:
        return None
    _, offsets, data = texts.buffers()
    begin = int(np.frombuffer(offsets, np.int32, 1, texts.offset * 4)[0])
    letters = np.frombuffer(data, np.uint8, len(texts) * len(_USUAL), begin).reshape(-1, len(_USUAL))
    values = letters - _USUAL  # below zero wraps around
    if values[:, _DIGITS].max() > 9 or np.delete(values, _DIGITS, axis=1).any():
        return None

    def number(*places: int) -> Any:
        whole = np.zeros(len(there), np.int64)
        whole[there] = sum(
            values[:, place].astype(np.int64) * 10**power for power, place in enumerate(reversed(places))
        )
        return whole

    parts = ((0, 1, 2, 3), (5, 6), (8, 9), (11, 12), (14, 15), (17, 18))
    year, month, day, hour, minute, second = (number(*places) for places in parts)
    return _moments(there, year, month, day, hour, minute, second, np.zeros(len(there), np.int64))


def _moments(
    there: Any, year: Any, month: Any, day: Any, hour: Any, minute: Any, second: Any, micro: Any
) -> Any:
    """``datetime64[us]`` of the parts of times, NaT where there is no such day or time of day."""
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (day - 1)
    exists = there & (
        (year >= YEARS[0])
        & (year < YEARS[1])
        & (month >= 1)
        & (month <= 12)
        & (day >= 1)
        & (days.astype("datetime64[M]") == months)
    )
    exists &= (hour < 24) & (minute < 60) & (second < 60)
    clock = (((hour * 60 + minute) * 60) + second) * 1_000_000 + micro
    return np.where(exists, days.astype("datetime64[us]") + clock, np.datetime64("NaT", "us"))


def _offset_microseconds(offset: pa.Array) -> Any:
    """The offsets from UTC in microseconds; impossible ones, such as +25:00, are NaT."""

    def minutes(text: str) -> int | None:
        if text in ("", "Z", "z", "UTC", "GMT"):
            return 0
        hours, rest = int(text[1:3]), int(text[3:].replace(":", "") or 0)
        return None if hours > 14 or rest > 59 else (hours * 60 + rest) * (-1 if text[0] == "-" else 1)

    parsed = map_distinct(offset, minutes, pa.int64())
    value = np.asarray(pc.fill_null(parsed, 0).to_numpy(zero_copy_only=False)).astype("timedelta64[m]")
    is_offset = np.asarray(parsed.is_valid().to_numpy(zero_copy_only=False))
    return np.where(is_offset, value.astype("timedelta64[us]"), np.timedelta64("NaT", "us"))


def _to_utc(local: Any, zone: str) -> Any:
    """Wall-clock times of a zone in UTC. By Python's rules: Arrow's end in 2037, and shifted records are later."""
    if zone == "UTC":
        return local
    clock = ZoneInfo(zone)
    days = local.astype("datetime64[D]")
    utc = np.full(len(local), np.datetime64("NaT", "us"))
    for day in np.unique(days[~np.isnat(days)]):
        rows = np.flatnonzero(days == day)
        begin = datetime.combine(day.item(), time.min)
        offset, then = _offset(begin, clock), _offset(begin + timedelta(days=1), clock)
        if offset == then:
            utc[rows] = local[rows] - np.timedelta64(offset)
        else:  # the clock is put forward or back in these hours
            utc[rows] = [_instant(moment.item(), clock) for moment in local[rows]]
    return utc


def _offset(local: datetime, clock: ZoneInfo) -> timedelta:
    return local.replace(tzinfo=clock, fold=1).utcoffset() or timedelta()


def _instant(local: datetime, clock: ZoneInfo) -> datetime | None:
    utc = local - _offset(local, clock)
    back = utc.replace(tzinfo=UTC).astimezone(clock).replace(tzinfo=None)
    return utc if back == local else None


IcdKind = Literal["diagnosis", "procedure"]

_VERSION = re.compile(r"(?:ICD ?-?)?0?(9|10)(?:\.0+)?(?: ?-?(?:CM|PCS))?")
_SYSTEM = {("9", "diagnosis"): "ICD9CM", ("10", "diagnosis"): "ICD10CM", ("9", "procedure"): "ICD9PCS",
           ("10", "procedure"): "ICD10PCS"}  # fmt: skip
_SPELLING = {
    "ICD9CM": re.compile(r"([0-9]{3}|V[0-9]{2})\.?[0-9]{0,2}|E[0-9]{3}\.?[0-9]?|E[0-9]{2}\.[0-9]{1,2}"),
    "ICD10CM": re.compile(r"[A-Z][0-9][0-9AB]\.?[0-9A-Z]{0,4}"),
    "ICD9PCS": re.compile(r"[0-9]{2}\.?[0-9]{0,2}"),
    "ICD10PCS": re.compile(r"[0-9A-HJ-NP-Z]{7}"),
}
"""With the dot, where one is written: at another place it belongs to another system's code. Of ICD-9's E codes some
exports put it after three characters, as of all codes."""
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
