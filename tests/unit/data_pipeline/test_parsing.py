"""How texts of an extract are read: every kind of writing, and what is refused instead of guessed."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.ingest import parsing, source, timestamps

BLANKS = st.text(" \t\u00a0\u2003\u200b\ufeff\r\n", max_size=3)
WALL_CLOCK = st.datetimes(datetime(1600, 1, 1), datetime(2900, 1, 1)).map(lambda t: t.replace(microsecond=0))


def column(*texts: str | None) -> pa.Array:
    return pa.array(texts, pa.string())


def times(*texts: str | None, zone: str = "UTC") -> list[Any]:
    read: list[Any] = timestamps.times(parsing.strings(column(*texts)), zone).to_pylist()
    return read


@given(st.sampled_from(["EMERGENCY", "EW EMER.", "DIED", "F"]), BLANKS, BLANKS, st.booleans())
def test_a_word_is_the_same_however_it_is_padded_and_cased(
    word: str, before: str, after: str, small: bool
) -> None:
    written = before + (word.lower() if small else word).replace(" ", "\u00a0 ") + after
    assert parsing.words(column(written)).to_pylist() == [word]


def test_a_word_has_the_category_of_its_own_list_before_that_of_a_pattern() -> None:
    lists = {"OBSERVATION": ["*OBSERVATION*"], "EMERGENCY": ["EW EMER.", "Observation Admit"]}
    words = parsing.words(column("observation admit ", "EU OBSERVATION", "EW EMER.", "EWEMER", "[A-Z]", None))
    assert parsing.categories(words, lists).to_pylist() == [
        "EMERGENCY",
        "OBSERVATION",
        "EMERGENCY",
        "OTHER",
        "OTHER",
        None,
    ]
    assert parsing.unlisted(words, lists) == 2


@given(st.lists(st.text(max_size=8) | st.none(), max_size=8))
def test_each_word_is_listed_or_counted(texts: list[str | None]) -> None:
    words = parsing.words(column(*texts))
    categories = parsing.categories(words, {"F": ["F"], "M": ["M"]}).to_pylist()
    assert categories.count(parsing.UNLISTED) == parsing.unlisted(words, {"F": ["F"], "M": ["M"]})
    assert [c is None for c in categories] == [w is None for w in words.to_pylist()]


@given(st.sampled_from(parsing.NULL_WORDS), BLANKS, st.sampled_from([str.lower, str.title, str.upper]))
def test_a_word_for_nothing_is_missing_in_every_kind_of_column(word: str, pad: str, case: Any) -> None:
    written = column(pad + case(word) + pad)
    for read in (parsing.strings, parsing.identifiers, parsing.words):
        assert read(written).to_pylist() == [None]


@given(st.integers(0, 10**6), st.text("\u00b9\u00b2\u00b3\u2070\u2074\u2460\u2461", min_size=1, max_size=3))
def test_a_raised_digit_is_never_a_digit_of_the_number_before_it(number: int, mark: str) -> None:
    assert parsing.numbers(parsing.strings(column(f"{number}{mark}"))).to_pylist() == [None]


def test_a_unit_is_the_same_by_either_sign_of_a_millionth() -> None:
    assert {parsing.fold(unit) for unit in ("\u00b5mol/L", "\u03bcmol/L", "umol/L")} == {"umol/L"}
    assert parsing.fold("\u03bc\u03ad\u03c1\u03b1") == "\u03bc\u03ad\u03c1\u03b1", "a Greek word stays one"


@given(st.text(" \0", max_size=4))
def test_what_pads_a_column_of_fixed_width_is_no_part_of_it(pad: str) -> None:
    for read in (parsing.strings, parsing.identifiers, parsing.words):
        assert read(column("M" + pad, pad)).to_pylist() == ["M", None]


def test_a_source_may_have_other_words_for_nothing() -> None:
    assert parsing.strings(column("-99", "NULL"), ["-99"]).to_pylist() == [None, "NULL"]


@given(st.integers(-(10**12), 10**12), st.integers(0, 4))
def test_an_identifier_that_became_a_fraction_is_itself(number: int, zeros: int) -> None:
    assert parsing.identifiers(column(f"{number}.{'0' * zeros}")).to_pylist() == [str(number)]


def test_other_identifiers_stay_as_they_are() -> None:
    texts = ["007", "11.5", "a-1.0", "1.1E+07"]
    assert parsing.identifiers(column(*texts)).to_pylist() == texts


@given(st.floats(allow_nan=False, allow_infinity=False), BLANKS)
def test_every_number_is_read_as_it_was_written(number: float, pad: str) -> None:
    assert parsing.numbers(parsing.strings(column(f"{pad}{number!r}{pad}"))).to_pylist() == [number]


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "Infinity",
        "1d",
        "0x1f",
        "1,5",
        "3-5",
        "1+",
        "7 mg",
        "1e999",
        "1_000",
        "--1",
        "1.2.3",
        "e5",
        "7.4\u00b9",
        "10\u00b3",
        "7.4\u2460",
        "5\u00bd",
    ],
)
def test_what_is_no_number_is_none(text: str) -> None:
    assert parsing.numbers(parsing.strings(column(text))).to_pylist() == [None]


BELOW = [
    "<", "<=", "≤", "≦", "< or =", "<or=", "< or equal to", "&lt;", "&lt;=", "less than", "LESS  THAN",
    "less than or equal to", "below", "under", "up to", "not more than", "＜",
]  # fmt: skip
ABOVE = [
    ">", ">=", "≥", "≧", "> or =", "> or equal", "&gt;", "&ge;", "GREATER THAN", "more than", "above", "over",
    "at least", "not less than",
]  # fmt: skip


NUMBERS = st.sampled_from(["10", "0.5", ".01", "1E2"])


@given(st.sampled_from(BELOW + ABOVE), NUMBERS, BLANKS, st.sampled_from(["", " NG/ML", "%"]))
def test_bounds_in_signs_and_in_words_are_read_alike(sign: str, number: str, blank: str, unit: str) -> None:
    found = parsing.bounds(column(sign + " " * sign[-1].isalpha() + blank + number + unit))
    assert found.sign.to_pylist() == ["<" if sign in BELOW else ">"]
    assert found.number.to_pylist() == [float(number)]
    assert found.unit.to_pylist() == [unit.strip().lower() or None]


@pytest.mark.parametrize(
    "text", ["7", "3-5", "1+", "<", "<a", "titer is >450", "5 <", "10 less than", "< 1 > 2", "~5"]
)
def test_what_is_no_bound_is_none(text: str) -> None:
    assert [part.to_pylist() for part in parsing.bounds(column(text))] == [[None]] * 3


def test_one_instant_is_one_time_whatever_its_offset() -> None:
    utc = datetime(2150, 1, 1, 16)
    texts = (
        "2150-01-01 11:00:00-05:00",
        "2150-01-01T16:00:00Z",
        "2150-01-01 17:00:00 +0100",
        "2150-01-01 16:00",
    )
    assert times(*texts) == [utc] * 4


@given(WALL_CLOCK, st.integers(-14 * 60, 14 * 60), st.sampled_from("T "), st.booleans())
def test_an_offset_is_converted_and_never_dropped(
    at: datetime, minutes: int, letter: str, colon: bool
) -> None:
    zone = timezone(timedelta(minutes=minutes))
    written = at.replace(tzinfo=zone).isoformat(letter)
    text = written if colon else written[:-3] + written[-2:]
    expected = at.replace(tzinfo=zone).astimezone(UTC).replace(tzinfo=None)
    assert times(text, zone="America/New_York") == [expected]


@given(WALL_CLOCK)
def test_a_time_without_an_offset_is_by_the_clock_of_the_source(at: datetime) -> None:
    (utc,) = times(str(at), zone="America/New_York")
    if utc is None:  # an hour that the clock skips
        assert at.month in (3, 4)
        assert at.hour == 2
    else:
        (shown,) = timestamps.times(column(utc.isoformat() + "Z"), "UTC").to_pylist()
        assert shown.replace(tzinfo=UTC).astimezone(ZoneInfo("America/New_York")).replace(tzinfo=None) == at


def test_summer_time_goes_on_after_2037_skips_an_hour_and_shows_one_twice() -> None:
    texts = ("2150-07-01 12:00", "2150-03-08 02:30", "2150-11-01 01:30")
    assert times(*texts, zone="America/New_York") == [
        datetime(2150, 7, 1, 16),
        None,
        datetime(2150, 11, 1, 6, 30),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "2150", "2150-05", "2150-05-01", "20150-01-06 12:00:00", "2150-02-30 10:00", "2150-13-01 10:00", "24:00",
        "2150-01-01 24:00:00", "2150-01-01 10:60", "0000-01-01 00:00", "9999-12-31 00:00", "2150-W01-1", "not a time",
        "2150-01-01 10", "2150-01-01 10:00+25:00", "01/02/2150 10:00", "2150-01-01 10:00 PM", "2150-01-01 10:00 EST",
    ],
)  # fmt: skip
def test_a_time_that_is_not_whole_is_none(text: str) -> None:
    assert times(text) == [None]


@given(WALL_CLOCK, st.sampled_from(["", " 00:00:00", "T13:45", " 23:59:59.9"]), BLANKS)
def test_a_date_is_the_beginning_of_its_day(at: datetime, clock: str, pad: str) -> None:
    read = timestamps.dates(parsing.strings(column(f"{pad}{at.date()}{clock}{pad}")), "UTC").to_pylist()
    assert read == [datetime(at.year, at.month, at.day)]


@pytest.mark.parametrize(
    "text",
    [
        "2150",
        "2150-05",
        "2150-02-29",
        "2150-01-01T00:00Z",
        "2150-01-01 25:00x",
        "2150-01-01 24:00",
        "2150-01-01 10:61",
    ],
)
def test_a_date_that_is_not_whole_or_has_an_offset_is_none(text: str) -> None:
    assert timestamps.dates(column(text), "UTC").to_pylist() == [None]


def icd(code: str, version: str, kind: parsing.IcdKind = "diagnosis") -> str | None:
    read: str | None = parsing.icd_codes(
        parsing.strings(column(code)), parsing.identifiers(column(version)), kind
    )[0].as_py()
    return read


@pytest.mark.parametrize(
    ("code", "version", "right"),
    [
        ("428.", "9", "ICD9CM//428"),
        ("E849.0", "9", "ICD9CM//E8490"),
        ("E84.90", "9", "ICD9CM//E8490"),
        ("E11.9", "9", None),  # diabetes by ICD-10
        ("E119", "9", None),
        ("E849.0", "10", None),  # a place of an accident by ICD-9, not cystic fibrosis
        ("4280.0", "9", None),
        ("I5.09", "10", None),
        ("I5O.9", "10", None),  # the letter O
        ("C7A.1", "10", "ICD10CM//C7A1"),
        ("I50.9 A", "10", None),  # ruled out, as German hospitals write it
        ("I509 V", "10", None),  # suspected
        ("428.0", "9.0", "ICD9CM//4280"),
        ("i50.9", "10", "ICD10CM//I509"),
        (" I509", "10", "ICD10CM//I509"),
        ("38.9", "9", "ICD9CM//0389"),
        ("42", "9", "ICD9CM//042"),
        ("e812.0", "ICD-9-CM", "ICD9CM//E8120"),
        ("I50.9", "11", None),
        ("I50.9", "9", None),
        ("4280", "10", None),
        ("heart failure", "10", None),
        ("NULL", "9", None),
    ],
)
def test_a_diagnosis_has_one_spelling(code: str, version: str, right: str | None) -> None:
    assert icd(code, version) == right


def test_a_procedure_has_one_spelling() -> None:
    assert icd("3.31", "9", "procedure") == "ICD9PCS//0331"
    assert icd("02h633z", "10", "procedure") == "ICD10PCS//02H633Z"
    assert icd("02H63", "10", "procedure") is None


@given(st.integers(1, 999), st.integers(0, 99), BLANKS)
def test_a_dotted_code_that_was_taken_for_a_number_gets_its_zeros_back(
    head: int, tail: int, pad: str
) -> None:
    code = f"{head:03}.{tail:02}"
    spreadsheet = f"{head}.{tail:02}"
    assert icd(pad + spreadsheet + pad, "9.0") in (
        icd(code, "9"),
        icd(f"{head:03}", "9") if tail == 0 else None,
    )


def test_texts_that_void_a_number_are_a_source_s() -> None:
    for name in ("mimic-iii", "mimic-iv"):
        voiding = source.load(name).not_measured
        void = [
            "No Response-ETT",
            "1.0 ET/Trach",
            "HEMOLYZED",
            "4.1 (hemolyzed)",
            "4.1 (clotted)",
            "no response-ett ",
            "UNABLE TO REPORT",
            "4.1 (hemolysed sample)",
            "4.1 SPECIMEN GROSSLY HEMOLYZED",
            "*HAEMOLYSED* 4.1",
            "4.1 - please disregard",
            "ERRONEOUS",
            "WRONG PATIENT",
            "mislabeled specimen",
        ]
        sound = [
            "7.4 (not hemolyzed)",
            "No Response",
            "1 No Response",
            "Oriented",
            "None",
            "NOT INTUBATED",
            "Not hemolyzed",
            "7.4",
            "Spontaneously",
            "non-hemolyzed",
            "no longer clotted, not contaminated",
            "unclotted",
        ]
        assert parsing.voiding(column(*void), voiding).to_pylist() == [True] * len(void)
        assert parsing.voiding(column(*sound), voiding).to_pylist() == [False] * len(sound)


def test_times_of_the_usual_form_are_read_as_those_among_others_are() -> None:
    usual = [
        "2024-02-29 23:59:59", None, "2023-02-29 00:00:00", "2024-01-01 24:00:00", "1499-01-01 00:00:00",
        "2024-13-01 00:00:00", "2024-03-31 02:30:00", "2024-10-27 02:30:00",
        "2024-00-10 00:00:00", "2024-01-00 00:00:00",
    ]  # fmt: skip
    for zone in ("UTC", "Europe/Berlin"):
        alone = timestamps.times(pa.array(["x", *usual], pa.string())[1:], zone)
        among = timestamps.times(pa.array([*usual, "2024-01-01 10:00"], pa.string()), zone)
        assert alone.equals(among[:-1])
        assert among[-1].is_valid
    for other in ("2024-01-01T10:00:00", "2024-01-01 10:00:0x", "2024/01/01 10:00:00"):
        assert timestamps.times(pa.array([usual[0], other]), "UTC")[0].is_valid
    assert timestamps.times(pa.array([None, None], pa.string()), "UTC").null_count == 2


@given(st.text(min_size=1, max_size=8), st.sampled_from(["latin-1", "cp1252", "utf-8", "mac-roman"]))
def test_an_identifier_in_another_encoding_is_itself_or_counts_as_shortened(text: str, encoding: str) -> None:
    """Two numbers that a wrong encoding made one must not be one patient's."""
    written = text.encode(encoding, errors="ignore")
    read = parsing.identifiers(pa.array([written.decode("utf-8", errors="replace")]))
    [lost] = parsing.rounded(read).to_pylist()
    if b"\xef\xbf\xbd" not in written and read[0].is_valid:
        assert bool(lost) == ("\ufffd" in read[0].as_py()) or "E+" in read[0].as_py().upper()


@given(st.sampled_from("\u2460\u2461\u2468\u24ea\u00b2\u00b9\u2075"), st.sampled_from(["", "7.4", "12"]))
def test_what_points_to_a_footnote_is_no_number(sign: str, number: str) -> None:
    assert parsing.numbers(parsing.strings(pa.array([number + sign]))).to_pylist() == [None]
