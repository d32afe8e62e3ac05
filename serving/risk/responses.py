"""Responses: from a request's values, or a patient's record, to an answer and its rows of the log."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from data_pipeline.clinical_text.languages import ENGLISH
from data_pipeline.features import plain_inputs
from mediscale.core.errors import InputError, MediscaleError, RemoteError, failure_location
from mediscale.core.tasks import TaskName
from mediscale.inference.collate import Tokens
from mediscale.inference.tabular import Scored
from serving import schemas
from serving.log.logged_answers import Prediction
from serving.requests.request import Values
from serving.risk.note_reader import Readings
from serving.risk.patient_records import PatientRecord
from serving.risk.served import Floats, ServedVersion, ServedVersions
from serving.schemas import (
    Answer,
    Factor,
    NoteUse,
    OutOfRange,
    TaskRisk,
    TaskWithoutRisk,
    Threshold,
    UnusualValue,
)

log = logging.getLogger("mediscale.serving")

FallBack = Callable[[ServedVersion, Exception], ServedVersion]
"""From a version that failed, and its failure, to what answers in its place; or it raises the failure again."""
_Answered = tuple[TaskRisk, Prediction]
NO_INPUT = "Nothing that was given is an input of this version."


def of_values(
    request: Values,
    served: ServedVersions,
    prediction_id: str,
    now: datetime,
    readings: Readings,
    fall_back: FallBack,
) -> tuple[Answer, list[Prediction]]:
    """Every served task's risk from plain values and a note; tasks may know different inputs.

    ``readings`` are what the versions that read notes made of the note, and ``fall_back`` gives what answers in the
    place of a version that fails.

    Raises:
        InputError: nothing that was given is an input of any of them.
    """
    of_request = frozenset(request.given)
    risks, logged, without = [], [], dict(served.unserved)

    def by(version: ServedVersion) -> _Answered | None:
        note = _read_text(version, request.note, readings)
        inputs = version.predictor.spec.plain_inputs
        if note.margin is None and of_request.isdisjoint(inputs):
            return None
        row = version.row_of_values(request.given)
        scored = _scored(version, row, note)
        factors = version.explainer.of_values(scored.contributions, of_request, scored.notes)
        ranges = _compared(version, request.given)
        absent = len(inputs) - len(of_request.intersection(inputs))
        uncertain = bool(request.out_of_range) or absent > version.explainer.most_missing
        logged = _logged(prediction_id, now, version, scored.risk, row, note)
        return _risk(version, scored, factors, note, ranges, uncertain), logged

    for task, version in served.items():
        answered = _answered(by, version, fall_back)
        if answered is None:
            without[task] = NO_INPUT
            continue
        risks.append(answered[0])
        logged.append(answered[1])
    outside = schemas.out_of_range(request.out_of_range)
    if not risks:
        raise InputError(_nothing_usable(without, outside))
    of_any = _inputs(*(version.predictor.spec.plain_inputs for version in served.values()))
    missing = tuple([name for name in of_any if name not in of_request])
    return Answer(prediction_id, tuple(risks), _without(without), missing, outside), logged


def of_patient(
    record: PatientRecord, served: ServedVersions, prediction_id: str, now: datetime, fall_back: FallBack
) -> tuple[Answer, list[Prediction]]:
    """The risk of each task that may be asked at that time, from what the lake knew of a patient then; ``fall_back`` is
    that of ``of_values``."""
    risks, logged, absent = [], [], []

    def by(version: ServedVersion) -> _Answered | None:
        computed = record.rows[version.predictor.spec.task]
        row, note = version.row(computed), _read_known(version, record.notes)
        scored = _scored(version, row, note)
        factors = version.explainer.of_patient(scored.contributions, row, scored.notes)
        ranges = _compared(version, plain_inputs.newest_values(computed, version.predictor.spec.task))
        uncertain = len(version.explainer.inputs_without_value(row)) > version.explainer.most_missing
        logged = _logged(prediction_id, now, version, scored.risk, row, note, record)
        return _risk(version, scored, factors, note, ranges, uncertain), logged

    for task, version in served.items():
        if task not in record.rows:
            continue
        answered = _answered(by, version, fall_back)
        assert answered is not None  # for the types: a record always holds something
        risks.append(answered[0])
        logged.append(answered[1])
        absent.append(version.explainer.inputs_without_value(answered[1].features))
    answer = Answer(
        prediction_id,
        tuple(risks),
        _without({**served.unserved, **{task: f"{reason}." for task, reason in record.refused.items()}}),
        _common(absent),
        (),
        record.prediction_time.replace(tzinfo=UTC),
        record.time_basis,
    )
    return answer, logged


class NoProbabilityError(ArithmeticError):
    """A version computed a risk that is no number between 0 and 1."""


def _answered(
    by: Callable[[ServedVersion], _Answered | None], version: ServedVersion, fall_back: FallBack
) -> _Answered | None:
    """What a version answers or, where it fails while it does, what answers in its place. What is the request's fault,
    and what the records lack, is no failure of the version."""
    try:
        return by(version)
    except MediscaleError:
        raise
    except Exception as error:
        return by(fall_back(version, error))


def fall_back(version: ServedVersion, error: Exception) -> ServedVersion:
    """The points score of a version that failed.

    Raises:
        Exception: the failure itself, where the version has none.
    """
    if version.points_score is None:
        raise error
    log.error("%s failed while it answered: %s", version.model, failure_location(error))
    return version.points_score


def _scored(version: ServedVersion, row: Floats, note: "_Note") -> Scored:
    scored = version.predictor.score(row, note.margin)
    if not 0 <= scored.risk <= 1:
        raise NoProbabilityError
    return scored


def _without(reasons: Mapping[TaskName, str]) -> tuple[TaskWithoutRisk, ...]:
    return tuple(TaskWithoutRisk(task, reason) for task, reason in reasons.items())


@dataclass(frozen=True, slots=True)
class _Comparison:
    """How the values of a request lie beside those that a version was trained on."""

    unusual: tuple[UnusualValue, ...]
    without_range: tuple[str, ...]


def _compared(version: ServedVersion, values: Mapping[str, float]) -> _Comparison:
    """Remarks on the values that lie outside what the version was trained on, and the inputs for which it has no range:
    that nothing is remarked of them says nothing."""
    spec = version.predictor.spec
    outside, without = [], []
    for name, value in values.items():
        if name in spec.usual_ranges:
            low, high = spec.usual_ranges[name]
            if not low <= plain_inputs.as_feature(name, value) <= high:
                outside.append(schemas.unusual_value(name, low, high))
        elif name in spec.plain_inputs and name != "sex":
            without.append(name)
    return _Comparison(tuple(outside), tuple(without))


@dataclass(frozen=True, slots=True)
class _Note:
    """What a version made of a note: its margin, and what is told of it."""

    margin: float | None = None
    use: NoteUse | None = None


def _read_text(version: ServedVersion, text: str | None, readings: Readings) -> _Note:
    reader = version.predictor.reader
    if text is None:
        return _Note()
    if reader is None:
        return _Note(use=NoteUse("not read", 0))
    reading = readings[reader]
    if isinstance(reading, RemoteError):
        raise reading
    other = None if reading.language == ENGLISH else reading.language
    return _note(reading.margin, reading.tokens, reading.whole, other)


def _read_known(version: ServedVersion, notes: Mapping[str, Sequence[Tokens]]) -> _Note:
    """What a version made of a known patient's notes, given by tokenizer; that it could read none of them is told."""
    reader = version.predictor.reader
    if reader is None:
        return _Note()
    mine = notes.get(reader.spec.tokenizer, ())
    if not mine and any(notes.values()):
        return _Note(use=NoteUse("not read", 0))
    written, windows = sum(map(len, mine)), reader.windows(mine)
    tokens = sum(map(len, windows))
    return _note(float(reader.margins([windows])[0]), tokens, tokens == written) if written else _Note()


def _note(margin: float | None, tokens: int, whole: bool, language: str | None = None) -> _Note:
    use = NoteUse("read" if whole else "read in part", tokens, language)
    return _Note() if margin is None else _Note(margin, use)


def _risk(
    version: ServedVersion,
    scored: Scored,
    factors: tuple[Factor, ...],
    note: _Note,
    ranges: _Comparison,
    uncertain: bool,
) -> TaskRisk:
    spec = version.predictor.spec
    points = spec.thresholds if note.margin is None or spec.notes is None else spec.notes.thresholds
    return TaskRisk(
        task=spec.task,
        outcome=spec.outcome,
        risk=scored.risk,
        baseline_risk=scored.baseline,
        model=version.model.name,
        version=version.model.version,
        thresholds=tuple(Threshold(name, at, scored.risk >= at) for name, at in points.items()),
        factors=factors,
        unusual_values=ranges.unusual,
        without_usual_range=ranges.without_range,
        note=note.use,
        instead_of=version.instead_of,
        uncertain=uncertain or bool(ranges.unusual) or version.instead_of is not None,
    )


def _logged(
    prediction_id: str,
    now: datetime,
    version: ServedVersion,
    risk: float,
    row: Floats,
    note: _Note,
    record: PatientRecord | None = None,
) -> Prediction:
    return Prediction(
        prediction_id=prediction_id,
        predicted_at=now,
        task=version.predictor.spec.task,
        model=version.model.name,
        model_version=version.model.version,
        risk=risk,
        features=row,
        note_margin=note.margin,
        subject_id=record.subject_id if record else None,
        prediction_time=record.prediction_time if record else None,
        events_version=record.events_version if record else None,
    )


def _nothing_usable(without: Mapping[TaskName, str], outside: Sequence[OutOfRange]) -> str:
    if outside:
        ranges = ", ".join(f"{value.input} ({value.plausible})" for value in outside)
        return (
            f"Nothing was predicted: no value lies within what a record can hold, {ranges}; check the units."
        )
    tasks = ", ".join(without)
    return f"Nothing was predicted: what was given is no input of {tasks}; the page /docs lists the inputs."


@cache
def _inputs(*of_tasks: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for inputs in of_tasks for name in inputs))


def _common(absent: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Inputs that no task found: the windows of one may hold what those of another do not."""
    first, *others = absent
    return tuple(name for name in first if all(name in other for other in others))
