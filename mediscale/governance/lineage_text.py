"""Lineage for a person: the lines that ``mediscale lineage`` and ``mediscale who-scored`` print."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from mediscale.core.concepts import CONCEPTS
from mediscale.core.errors import MediscaleError, NotFoundError
from mediscale.core.plural import counted
from mediscale.core.settings import Settings
from mediscale.core.task_names import LANGUAGE
from mediscale.governance import provenance
from mediscale.governance.patient import Patient
from mediscale.governance.provenance import Prediction
from mediscale.storage.calls import Call
from mediscale.storage.lineage import Lineage

_USES = {
    "train": "trained on the patient",
    "tuning": "tuned on the patient",
    "held_out": "judged on the patient",
    "unknown": "trained or judged on the patient; its record does not say which",
}
"""What a patient was to a version, by the split."""


def of_prediction(settings: Settings, prediction_id: str) -> Iterator[str]:
    """A prediction back through version, training set, features and events to the lines of the extract."""
    lineage = Lineage(settings)
    answers = provenance.prediction(settings, prediction_id)
    if answers[0].task == LANGUAGE:  # a row for each part of it that left
        yield str(answers[0])
        yield from _version(lineage, answers[0].model, answers[0].model_version)
        yield from _quoted(settings, lineage, [answer.cited for answer in answers if answer.cited])
        return
    for answer in answers:
        yield str(answer)
        yield from _version(lineage, answer.model, answer.model_version)
        if answer.events_version is None:
            yield "  its inputs came with the request; nothing was read from the lake"
            continue
        yield (
            f"  its inputs: events v{answer.events_version} of {answer.dataset}, as known at "
            f"{answer.prediction_time:%Y-%m-%d %H:%M:%S}"
        )
        try:
            read, notes = provenance.places(settings, lineage, answer), provenance.notes(settings, answer)
        except MediscaleError as error:
            yield f"    {error}"
            continue
        for code, files in sorted(read.items()):
            places = "; ".join(f"{file} {_ranges(lines)}" for file, lines in sorted(files.items()))
            yield f"    {code}{_meaning(code)}: {places}"
        for note in notes:
            yield f"    note: {note.file} line {note.line}, known since {note.known:%Y-%m-%d %H:%M:%S}"


def _quoted(settings: Settings, lineage: Lineage, references: Sequence[str]) -> Iterator[str]:
    """The passages that a language answer quotes, and how their index was made."""
    if not references:
        yield "  the log names no passage that it quotes"
    for reference in dict.fromkeys(references):
        yield f"  it quotes passage {reference.rpartition('#')[2]} of the index {reference.rpartition('#')[0]}"
        try:
            passage = provenance.passage(settings, lineage, reference)
        except MediscaleError as error:
            yield f"    {error}"
            continue
        place = f" {passage.place}" if passage.place else ""
        yield (
            f"    {passage.file}{place}, characters {passage.start} to {passage.end}, digest {passage.digest[:12]}"
        )
        if passage.made_by:
            calls = lineage.upstream([passage.made_by]).values()
            yield from _calls(sorted(calls, key=lambda call: call.started_at, reverse=True))


def of_version(settings: Settings, name: str, version: int) -> Iterator[str]:
    """A version back to its extract, call by call.

    Raises:
        NotFoundError: no record registered the version.
    """
    calls = list(provenance.of_version(Lineage(settings), name, version))
    yield f"{name}/{version} was made by {counted(len(calls), 'call')}; the newest is first"
    yield from _calls(calls)


def of_patient(settings: Settings, patient: Patient) -> Iterator[str]:
    """A patient forward to every table, version and prediction."""
    lineage = Lineage(settings)
    holdings = list(provenance.holdings(settings, patient))
    rows_in_all = sum(rows for _, rows in holdings)
    yield f"{counted(rows_in_all, 'row')} in {counted(len(holdings), 'table')} of {patient.dataset}"
    for ref, rows in holdings:
        yield f"  {ref.table}@v{ref.version}: {rows:,}"
    used = provenance.uses(settings, lineage, patient)
    yield counted(len(used), "registered version")
    for use in used:
        yield f"  {use.model}/{use.version}: {_USES[use.split]}"
    answers = provenance.scored(settings, patient, None)
    yield f"{counted(len(answers), 'prediction')} in the lake's log"
    for answer in answers:
        yield f"  {answer}"
    quoting = provenance.quoting(settings, patient)
    yield f"{counted(len(quoting), 'answer')} of language models in the lake's logs, quoting the patient's notes"
    for answer in quoting:
        yield f"  {answer}"


def rescored_answers(settings: Settings, patient: Patient, at: datetime | None) -> Iterator[tuple[str, bool]]:
    """The answers about a patient, each with whether scoring again gives the same.

    Raises:
        NotFoundError: nobody had asked about the patient by then.
    """
    if at is not None and at.tzinfo is not None:
        at = at.astimezone(UTC).replace(tzinfo=None)
    lineage = Lineage(settings)
    answers = provenance.scored(settings, patient, at)
    if not answers:
        raise NotFoundError(
            "The prediction log in the lake has no answer about this patient"
            f"{f' up to {at:%Y-%m-%d %H:%M:%S} UTC' if at else ''}. {provenance.NOT_YET_THERE}"
        )
    for answer in answers:
        differs = provenance.verify(settings, lineage, answer)
        yield f"{answer}; {differs or f'{_rescored_from(answer)}: the same to the bit'}", not differs


def _rescored_from(answer: Prediction) -> str:
    notes = "" if answer.note_margin is None else ", with the logged output of its note model"
    if answer.events_version is None:
        return f"scored again from the inputs that came with the request, with that version{notes}"
    return f"scored again from events v{answer.events_version} with that version{notes}"


def _version(lineage: Lineage, name: str, version: int) -> Iterator[str]:
    try:
        yield from _calls(provenance.of_version(lineage, name, version))
    except NotFoundError as error:
        yield f"  {error}"


def _calls(calls: Iterable[Call]) -> Iterator[str]:
    for call in calls:
        yield f"  {call.stage} {call.key[:12]} of {call.started_at:%Y-%m-%d %H:%M}: {_outputs_of_call(call)}"


def _outputs_of_call(call: Call) -> str:
    """What a call left, or of the first one where its files were."""
    if call.stage == "bronze":
        return (
            f"{call.params['source']} from {call.params['path']}, digest {call.params['extract_digest'][:12]}"
        )
    if call.stage == "synthetic":
        return f"a synthetic hospital in {call.result['path']}"
    models = [artifact.removeprefix("model:") for artifact in call.produced if artifact.startswith("model:")]
    tables = [f"{output.ref.table}@v{output.ref.version}" for output in call.outputs]
    return ", ".join([*models, *tables]) or "its result"


def _meaning(code: str) -> str:
    """The concept of a LOINC code, which no reader knows by heart.

    >>> _meaning("LOINC//2160-0"), _meaning("GENDER//F")
    (' (creatinine)', '')
    """
    return next((f" ({concept.name.replace('_', ' ')})" for concept in CONCEPTS if concept.code == code), "")


def _ranges(numbers: Sequence[int]) -> str:
    """Sorted line numbers, neighbours as a range.

    >>> _ranges([2, 3, 4, 9])
    'lines 2-4, 9'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    text = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return f"line{'s' if len(numbers) > 1 else ''} {text}"
