"""A body has one reading: one that could be read in two ways is refused in a sentence that names the field."""

import json
import time
from datetime import datetime
from typing import Any

import hypothesis
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from mediscale.core.errors import InputError
from serving import schemas
from serving.requests import large_texts
from serving.requests.request import Patient, Values, parse
from serving.routes.predict import BODY_BYTES
from serving.schemas import MAIN_NAMES, NOTE_CHARACTERS


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b'{"age": 67, "heart_rate": 180, "heart_rate": 60}', "heart_rate stands twice in the body"),
        (b'{"age": 67, "age": 67}', "age stands twice in the body"),
        (b'{"age": 67, "age": null}', "age stands twice in the body"),
        (b'{"age": 67, "\\u0061ge": 68}', "age stands twice in the body"),
        (b'{"patient": "a", "patient": "b"}', "patient stands twice in the body"),
        (b'{"heart_rate": 60, "pulse": 61}', "heart_rate and pulse are the same input"),
        (b'{"hr": 60, "heart_rate": null, "pulse": 60}', "hr and pulse are the same input"),
        (b'{"blood_pressure": 140, "systolic_blood_pressure": 140}', "are the same input"),
        (b'{"age": 67, "sbp": 80, "dbp": 120}', "systolic_blood_pressure is below diastolic_blood_pressure"),
        (b'{"sbp": 120, "mean_blood_pressure": 130}', "systolic_blood_pressure is below mean_blood_pressure"),
        (b'{"dbp": 80, "mean_blood_pressure": 60}', "mean_blood_pressure is below diastolic_blood_pressure"),
        (b'{"gcs_eye": 2.5}', "gcs_eye must be a whole number."),
        (b'{"age": {"age": 1, "age": 2}}', "age must be a number."),
        (b'{"age": [67, 68]}', "age must be a number."),
        (b'{"age": NaN}', "age must be a number."),
        (b'{"hr": Infinity}', "hr must be a number."),
        (b'{"hr": -Infinity}', "hr must be a number."),
        (b'{"age": 1e999}', "age must be a number."),
        (b'{"age": ' + b"9" * 5000 + b"}", "age must be a number."),
        (b'{"age": "67"}', "age must be a number."),
        (b'{"patient": "a\\ud800"}', "patient holds characters that are not text"),
        (b'{"clinical_note": "pain \\udc00\\ud83d"}', "clinical_note holds characters that are not text"),
        (b'{"sex": "female\\ud83d"}', "sex holds characters that are not text"),
        (b'{"\\ud800": 1}', "A field of the request is not an input"),
        (b'\xef\xbb\xbf{"age": 67}', "must be a JSON object"),
        ('{"age": 67}'.encode("utf-16"), "not valid JSON in UTF-8"),
        ('{"age": 67}'.encode("utf-16-le"), "not valid JSON in UTF-8"),
        (b'{"patient": "\xed\xa0\x80"}', "not valid JSON in UTF-8"),
        (b'{"patient": "caf\xe9"}', "not valid JSON in UTF-8"),
        (b'{"age": 67}{"age": 68}', "not valid JSON in UTF-8"),
        (b'{"age": 67} // or 68', "not valid JSON in UTF-8"),
        (b'{"age": 67,}', "not valid JSON in UTF-8"),
        (b'{"age": 067}', "not valid JSON in UTF-8"),
        (b'{"age": 67 "sex": "male"}', "not valid JSON in UTF-8"),
        (b'{"age"; 67}', "not valid JSON in UTF-8"),
        (b"{'age': 67}", "not valid JSON in UTF-8"),
        ('{"age": ٦٧}'.encode(), "not valid JSON in UTF-8"),
        ('{"age":\u00a067}'.encode(), "not valid JSON in UTF-8"),
        (b'{"patient": "a\nb"}', "not valid JSON in UTF-8"),
        (b'{"age": 67', "not valid JSON in UTF-8"),
        (b'{"age"', "not valid JSON in UTF-8"),
        (b'{"age', "not valid JSON in UTF-8"),
        (b'{"patient": "a', "not valid JSON in UTF-8"),
        (b'{"patient": "a\\"', "not valid JSON in UTF-8"),
        (b"{", "not valid JSON in UTF-8"),
        (b"", "must be a JSON object"),
        (b"age=67", "must be a JSON object"),
        (b'[{"age": 67}]', "must be a JSON object"),
        (b"\xff\xfe", "not valid JSON in UTF-8"),
    ],
)
def test_a_body_with_two_readings_or_none_is_refused_in_one_sentence(body: bytes, sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(body)
    assert sentence in str(refused.value)
    assert len(str(refused.value).split(". ")) == 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"heart_rate": 60}',
        b' \t\r\n{ "hr" : 60 , "heart_rate" : null , "pulse" : null } \n',
        b'{"heart_rate": null, "hr": null, "pulse": 6e1}',
        b'{"\\u0068r": 60.0}',
    ],
)
def test_null_beside_another_name_of_the_same_field_means_missing(body: bytes) -> None:
    assert parse(body) == Values({"heart_rate": 60.0}, ())


@pytest.mark.parametrize(
    ("written", "read", "with_offset"),
    [
        ("2150-03-02T10:00:00+02:00", datetime(2150, 3, 2, 8), True),
        ("2150-03-02T08:00:00Z", datetime(2150, 3, 2, 8), True),
        ("2150-03-01T22:30-09:30", datetime(2150, 3, 2, 8), True),
        ("2150-03-02T08:00:00", datetime(2150, 3, 2, 8), False),
        ("2150-03-02 08:00:00.000001", datetime(2150, 3, 2, 8, 0, 0, 1), False),
    ],
)
def test_a_time_is_read_as_the_lake_s_clock(written: str, read: datetime, with_offset: bool) -> None:
    body = json.dumps({"patient": "a", "prediction_time": written}).encode()
    assert parse(body) == Patient("a", read, with_offset)


def read_or_refused(body: bytes) -> Values | Patient | None:
    try:
        return parse(body)
    except InputError:
        return None


def first_and_last(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """An object as two other readers take it: by the first of equal names, and by the last."""
    pairs = json.loads(text, object_pairs_hook=list)
    return dict(reversed(pairs)), dict(pairs)


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(["female", "x", "\ud800", "2150"])
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner))
names = st.sampled_from(["age", "hr", "pulse", "heart_rate", "ages", *MAIN_NAMES])
likely = st.sampled_from(["age", "hr", "heart_rate", "temp", "wbc", "creatinine"])


@st.composite
def escaped(draw: st.DrawFn, name: str) -> str:
    """A name as JSON may write it: any of its characters by its number."""
    return "".join(f"\\u{ord(c):04x}" if draw(st.booleans()) else c for c in name)


@st.composite
def bodies(draw: st.DrawFn) -> str:
    """An ordinary object, into which up to two other fields were put, or another object's end."""
    fields: list[tuple[str, Any]] = [*draw(st.dictionaries(likely, st.integers(20, 90) | st.none())).items()]
    for _ in range(draw(st.integers(0, 2))):
        fields.insert(draw(st.integers(0, len(fields))), (draw(names), draw(values)))
    written = ", ".join(f'"{draw(escaped(name))}": {json.dumps(value)}' for name, value in fields)
    return "{" + written + draw(st.sampled_from(["}", "}", "} ", ",}", "}}", ""]))


@given(bodies())
def test_what_is_accepted_says_the_same_to_every_reader(text: str) -> None:
    request = read_or_refused(text.encode())
    if request is None:
        return
    first, last = first_and_last(text)
    assert first == last
    said = [MAIN_NAMES[name] for name, value in last.items() if value is not None]
    assert len(said) == len(set(said))
    if isinstance(request, Values):
        assert said
        assert {*request.given, *request.out_of_range} == set(said) - {"clinical_note"}
        expected = {MAIN_NAMES[name]: value for name, value in last.items() if value is not None}
        for name in set(request.given) - {"sex"}:
            assert request.given[name] == expected[name]


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode(errors="surrogatepass")))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    read_or_refused(body)


@given(st.data())
def test_a_body_that_was_cut_or_changed_is_read_or_refused(data: st.DataObject) -> None:
    body = bytearray(
        json.dumps(data.draw(st.sampled_from([e["value"] for e in schemas.EXAMPLES.values()]))).encode()
    )
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=2))
    read_or_refused(bytes(body))


@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@given(bodies().map(str.encode) | st.binary(max_size=20))
def test_any_body_is_answered_or_refused_by_the_server(client: TestClient, body: bytes) -> None:
    hypothesis.assume(len(body) <= large_texts.SMALL)  # a larger one is read in a process
    response = client.post("/predict", content=body)
    assert response.status_code in (200, 404, 422)
    assert response.json().keys() >= ({"predictions"} if response.status_code == 200 else {"error"})


COSTLY = {
    "unknown names": b"{" + b",".join(b'"k%d": 1' % i for i in range(400_000)) + b"}",
    "one long unknown name": b'{"' + b"a" * (BODY_BYTES - 10) + b'": 1}',
    "a deep value": b'{"age": ' + b"[" * (BODY_BYTES - 10),
    "a long number": b'{"age": ' + b"1" * (BODY_BYTES - 10) + b"}",
    "space": b'{"age": ' + b" " * (BODY_BYTES - 20) + b"67}",
    "an escaped note": b'{"clinical_note": "' + b"\\u0020" * NOTE_CHARACTERS + b'"}',
}


@given(st.lists(st.none() | st.integers(20, 250), min_size=3, max_size=3))
def test_pressures_are_accepted_in_the_order_that_they_can_have(pressures: list[int | None]) -> None:
    names = ("diastolic_blood_pressure", "mean_blood_pressure", "systolic_blood_pressure")
    body = json.dumps({"age": 67} | dict(zip(names, pressures, strict=True))).encode()
    measured = [pressure for pressure in pressures if pressure is not None]
    if measured == sorted(measured):
        parse(body)
    else:
        with pytest.raises(InputError, match=r"^\w+_blood_pressure is below \w+_blood_pressure;"):
            parse(body)


@pytest.mark.parametrize("at", [0, 2**15 - 1, 2**15, NOTE_CHARACTERS - 1])
def test_what_is_not_text_is_found_wherever_it_stands_in_a_long_note(at: int) -> None:
    note = "a" * at + "\x00" + "a" * (NOTE_CHARACTERS - at - 1)
    with pytest.raises(InputError, match="clinical_note holds characters that are not text"):
        parse(json.dumps({"clinical_note": note}).encode())


@pytest.mark.parametrize("kind", COSTLY)
def test_the_longest_body_costs_little(kind: str) -> None:
    """Of this process's own seconds, the least of three: a body of 6 MiB took seconds when each field was looked at."""
    seconds = []
    for _ in range(3):
        begun = time.process_time()
        read_or_refused(COSTLY[kind])
        seconds.append(time.process_time() - begun)
    assert min(seconds) < 0.25


def test_reading_stops_at_the_first_unknown_name() -> None:
    with pytest.raises(InputError, match="ages is not an input; did you mean age"):
        parse(b'{"age": 67, "ages": 1, "age": 2, not even JSON')


def test_no_body_has_more_fields_than_there_are_names() -> None:
    assert schemas.request_schema()["maxProperties"] == len(MAIN_NAMES)
    everything = ",".join(f'"{name}": null' for name in MAIN_NAMES)
    with pytest.raises(InputError, match="gives no value"):
        parse(f"{{{everything}}}".encode())
    with pytest.raises(InputError, match="stands twice"):
        parse(f'{{{everything}, "age": null}}'.encode())
