"""Stage: a question set without duplicates, split by family, decontaminated and augmented: a table and a test file."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from data_pipeline.documents import question_sets, questions
from data_pipeline.documents.questions import PreparedQuestions, Question
from mediscale.core import atomic_files
from mediscale.core.annotations import Digest, RuntimeInput
from mediscale.core.errors import QualityError, StorageError, UsageError
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.splits import SPLITS, Split
from mediscale.core.stage import SMALL, Context, Stage
from mediscale.core.tables import QUESTIONS, REVIEWED_FEEDBACK
from mediscale.storage import feedback_reviews, lake, table_files

if TYPE_CHECKING:
    import pyarrow as pa

SourceName = Literal["own", "file", "medquad", "pubmedqa", "medmcqa"]

OWN = Path(__file__).parent / "corpus" / "questions.jsonl"
"""The project's own questions, written from public, cited facts."""

READERS: dict[str, Callable[[Path], list[Question]]] = {
    "own": questions.read,
    "file": questions.read,
    "medquad": question_sets.read_medquad,
    "pubmedqa": question_sets.read_pubmedqa,
}
"""What reads a file of each source."""


class QuestionSource(Frozen):
    """The source of a run of the language pipeline: a set of questions."""

    dataset: str
    source: SourceName
    path: str
    """File of the questions; empty where the hub has them."""
    source_digest: Digest
    """SHA-256 of the file, or the revision of the hub's set."""


class Params(Frozen):
    """Which questions, and how they are prepared."""

    dataset: RuntimeInput[str]
    source: RuntimeInput[SourceName]
    path: RuntimeInput[str]
    source_digest: RuntimeInput[Digest]
    reviewed: RuntimeInput[TableRef | None] = None
    """Feedback on answers that a person reviewed; None where there is none."""
    newest_review: RuntimeInput[int] = 0
    """The number of the history's entry that attests the newest review; later ones are not looked at."""
    augmentation_factor: int = Field(1, ge=1)
    """Forms of each training question: 1 leaves it as it is, more add paraphrases of its frame."""
    max_questions: int = Field(0, ge=0)
    """Read no more than this many of the set, those first by a hash of their family; 0: all."""


class Result(Frozen):
    """The prepared questions."""

    questions: TableRef
    test_file: str
    """JSONL of the held-out part, relative to the home."""
    train: int
    tuning: int
    held_out: int
    exact_duplicates: int
    near_duplicates: int
    contaminated: int
    """Training questions that were removed because a tuning or held-out question is nearly the same."""
    augmented: int
    reviewed: int
    """Accepted pairs of the feedback on answers that joined the training part."""
    reviewed_left_out: int
    """Those that did not: near duplicates of one another, or of a tuning or held-out question."""


def source(name: str, path: str, dataset: str) -> QuestionSource:
    """The set that a person names, with the digest of its file.

    Raises:
        UsageError: there is no such source or file, or a path is given where none belongs, or the other way round.
    """
    name = name or "own"
    if name not in (*READERS, "medmcqa"):
        raise UsageError(
            f"There is no question set {name!r}; name one of {', '.join((*READERS, 'medmcqa'))}."
        )
    if bool(path) != (name not in ("own", "medmcqa")):
        needs = (
            "needs --path, the file of its questions"
            if not path
            else "has no file of yours; leave --path out"
        )
        raise UsageError(f"The question set {name} {needs}.")
    if name == "medmcqa":
        revision = question_sets.MEDMCQA_REVISION
        return QuestionSource(dataset=dataset, source="medmcqa", path="", source_digest=revision)
    file = OWN if name == "own" else Path(path).resolve()
    if not file.is_file():
        raise UsageError(f"There is no file {file.name} of questions; --path names it.")
    place = "" if name == "own" else str(file)  # our own file is part of the installation, wherever that is
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return QuestionSource.model_validate(
        {"dataset": dataset, "source": name, "path": place, "source_digest": digest}
    )


def run(params: Params, settings: Settings, key: str) -> Result:
    """Reads, prepares and writes the questions; a call whose key already wrote them finds them.

    Raises:
        InputError: the file holds something else.
        StorageError: it was changed since it was named.
        QualityError: a split is empty.
    """
    reviewed = _accepted(settings, params.reviewed, params.newest_review) if params.reviewed else []
    first = _first(_read_questions(params), params.max_questions)
    prepared = questions.prepare(first, params.augmentation_factor, reviewed)
    sizes = {split: len(prepared.splits[split]) for split in SPLITS}
    if not all(sizes.values()):
        raise QualityError(
            f"Too few questions to train and to judge a language model: {sizes['train']} to train on, "
            f"{sizes['tuning']} to tune on and {sizes['held_out']} held out; add questions of more families."
        )
    rows = _table(prepared).to_batches()
    written = table_files.write(settings, params.dataset, QUESTIONS.name, key, rows)
    return Result(
        questions=written,
        test_file=_write_test(settings, prepared.splits["held_out"], key),
        **sizes,
        exact_duplicates=prepared.exact_duplicates,
        near_duplicates=prepared.near_duplicates,
        contaminated=prepared.contaminated,
        augmented=prepared.augmented,
        reviewed=prepared.reviewed,
        reviewed_left_out=len(reviewed) - prepared.reviewed,
    )


def _read_questions(params: Params) -> list[Question]:
    if params.source == "medmcqa":
        return question_sets.load_medmcqa(revision=params.source_digest)
    path = Path(params.path) if params.path else OWN
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != params.source_digest:
        raise StorageError(f"The file {path.name} was changed or moved since the run began; run again.")
    return READERS[params.source](path)


def _accepted(settings: Settings, reviews: TableRef, until: int) -> list[Question]:
    """The pairs of question and answer whose newest signed review accepted them, in the order of their names."""
    return [
        Question(
            id=f"feedback/{name}",
            family=f"feedback/{name}",
            kind="short_answer",
            question=row["question"],
            answer=row["answer"],
            references=(f"feedback on {row['model']}/{row['model_version']}",),
        )
        for name, row in feedback_reviews.attested(settings, reviews, until).items()
        if row["decision"] == "accepted" and row["question"] and row["answer"]
    ]


def _first(questions: Sequence[Question], most: int) -> Sequence[Question]:
    """Some of the questions, whole families, the same ones in every run."""
    if not most or len(questions) <= most:
        return questions
    order = {
        family: hashlib.sha256(f"first/{family}".encode()).digest()
        for family in {q.family for q in questions}
    }
    return sorted(questions, key=lambda question: order[question.family])[:most]


def _table(prepared: PreparedQuestions) -> "pa.Table":
    import pyarrow as pa

    rows = [
        question.model_dump() | {"split": split} for split in SPLITS for question in prepared.splits[split]
    ]
    return pa.Table.from_pylist(rows, schema=QUESTIONS.arrow_schema())


def _write_test(settings: Settings, held_out: Sequence[Question], key: str) -> str:
    relative = Path("questions") / key / "held_out.jsonl"
    with atomic_files.replacing(settings.home / relative) as part:
        questions.write(part, held_out)
    return str(relative)


def load(settings: Settings, table: TableRef, split: Split) -> list[Question]:
    """The questions of one split, in the order of their ids."""
    import pyarrow.dataset as ds

    rows = lake.dataset(settings, table).to_table(filter=ds.field("split") == split).drop(["split"])
    return sorted(map(Question.model_validate, rows.to_pylist()), key=lambda question: question.id)


def runtime_inputs(params: Mapping[str, Any], settings: Settings) -> Iterator[Context]:
    """The feedback that was reviewed until now."""
    reviewed = lake.find_latest(settings, params["dataset"], REVIEWED_FEEDBACK.name)
    newest = feedback_reviews.newest_entry(settings, params["dataset"]) if reviewed else 0
    yield Context({"reviewed": reviewed and reviewed.model_dump(), "newest_review": newest})


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="prepare the questions",
    summary=lambda r: (
        f"{r.train} questions to train on ({r.augmented} paraphrases, {r.reviewed} of reviewed feedback), "
        f"{r.tuning} to tune on, {r.held_out} held out; "
        f"{r.exact_duplicates + r.near_duplicates} duplicates and {r.contaminated} contaminated left out"
    ),
    resources=SMALL,
    runtime_inputs=runtime_inputs,
)
