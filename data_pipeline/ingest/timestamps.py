"""Timestamps of an extract: texts to instants in UTC, by the clock of the hospital's zone, over Arrow columns.

Pure, as ``parsing`` is; ``parsing.strings`` comes first. Casts are stricter than those of Spark and pandas, which read
``2150`` as New Year's midnight and drop an offset.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.ingest.parsing import map_distinct

YEARS = (1500, 3000)
"""Years that records, also shifted ones, are dated in: the first and the first after. Others stand for "never"."""

LONGEST = timedelta(days=3653)
"""Ten years: what lasts longer has an end, or a start, that stands for "never", such as 1900-01-01 or 2999-12-31."""

AROUND_VISIT = timedelta(days=366)
"""How long before a visit and after it something that names it may be measured: what was drawn before an admission or
is told of a specimen after it is days away, and what is dated by another calendar, or by none, is years away."""

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
    letters = [token[0] for token in tokens if token[0].isalpha()]
    before = {letter: letters[i - 1] if i else "" for i, letter in enumerate(letters)}
    if len(before) < len(letters) or before.get("m", "H") not in "Hh" or before.get("s", "m") != "m":
        raise ValueError(
            f"{time_format!r} has a part twice, or minutes (mm) that follow no hour: months are MM, and minutes mm"
        )
    if ("a" in before) != ("h" in before):
        raise ValueError(f"{time_format!r} needs both hh and a, for hours up to 12, or HH without a, for 24")
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
    return f"{day} {hour:02}:{part.get('minute') or '00'}:{part.get('second') or '00'}"


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


_USUAL = "0000-00-00 00:00:00"


def _usual_times(column: pa.Array) -> Any:
    """What ``_local`` makes of ``YYYY-MM-DD HH:MM:SS``, read without a pattern; None where one is written otherwise, or
    there is no such day or time of day."""
    if pc.all(pc.equal(pc.binary_length(column), len(_USUAL))).as_py() is not True:
        return None
    try:
        moments = np.asarray(column.cast(pa.timestamp("us")).to_numpy(zero_copy_only=False))
    except pa.ArrowInvalid:
        return None
    first, after = (np.datetime64(f"{year}-01-01", "us") for year in YEARS)
    return np.where((moments >= first) & (moments < after), moments, np.datetime64("NaT", "us"))


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
