"""Medical questions with answers: reading, duplicates, decontamination, splits by family and augmentation.

All functions are pure over lists of ``Question``, keep the order of what they keep, and draw nothing at random.
``prepare`` is the whole chain; the question sets of others are read in ``question_sets``.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from data_pipeline.documents import csv_rows
from data_pipeline.documents.near_duplicates import NearDuplicateIndex, words
from mediscale.core.errors import InputError
from mediscale.core.refs import Frozen
from mediscale.core.splits import SPLITS, Split, assign_split

NEAR_DUPLICATE = 0.7
"""Jaccard similarity of word pairs from which two questions count as near duplicates."""

_LETTERS = "ABCDEFGH"
_LONGEST_COMPARED_ANSWER = 10
"""Words; a longer answer says the same in too many ways to be compared."""

_FRAMES: tuple[tuple[str, str], ...] = (
    (r"(?i:what is) (the .+)\?", r"Name \1."),
    (r"(?i:what are) (the .+)\?", r"State \1."),
    (r"(?i:what is) (the .+)\?", r"Can you tell me \1?"),
    (r"(?i:what are) (the .+)\?", r"Can you tell me \1?"),
    (r"(?i:which) (.+)\?", r"Please say which \1."),
    (r"(?i:how) (.+)\?", r"In one sentence: how \1?"),
    (r"(?s:(.+))", r"Answer briefly. \1"),
    (r"(?s:(.+))", r"A colleague asks: \1"),
    (r"(?s:(.+))", r"Question: \1"),
    (r"(?s:(.+))", r"Please answer this medical question. \1"),
    (r"(?s:(.+))", r"For an examination: \1"),
    (r"(?s:(.+))", r"\1 Give the answer only."),
)
"""Paraphrases of a question's frame, in the order in which they are used: pattern of the whole question, and form."""


class Question(Frozen):
    """One question with its answer."""

    id: str = Field(min_length=1)
    family: str = Field(min_length=1)
    """Questions about one fact; a family is never divided between splits."""
    kind: Literal["short_answer", "multiple_choice"]
    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    """For multiple choice the text of the correct option."""
    options: tuple[str, ...] = ()
    letter: str | None = None
    """Letter of the correct option; None for a short answer."""
    specialty: str = ""
    context: str = ""
    """Text that the question is about, where its set comes with one (PubMedQA's abstract)."""
    references: tuple[str, ...] = ()
    """Where the answer stands: ids of passages, addresses, PubMed ids."""

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        if self.kind == "short_answer":
            if self.options or self.letter:
                raise ValueError("a short answer has no options and no letter")
            return self
        if not 2 <= len(self.options) <= len(_LETTERS) or len(set(self.options)) < len(self.options):
            raise ValueError(f"multiple choice needs 2 to {len(_LETTERS)} different options")
        if self.answer not in self.options or self.letter != _LETTERS[self.options.index(self.answer)]:
            raise ValueError("`answer` is none of the options, or not the one that `letter` names")
        return self


@dataclass(frozen=True)
class Deduplicated:
    questions: list[Question]
    exact: int
    """Questions removed because an earlier one is the same but for case and punctuation."""
    near: int
    """Questions removed because an earlier one is similar by ``NEAR_DUPLICATE`` or more."""


@dataclass(frozen=True)
class PreparedQuestions:
    """Questions ready for training and evaluation, and what was removed on the way."""

    splits: dict[Split, list[Question]]
    exact_duplicates: int
    near_duplicates: int
    contaminated: int
    """Training and tuning questions removed because a held-out question is a near duplicate of them, and training
    questions because a tuning question is."""
    augmented: int
    """Paraphrases added to the training part."""
    reviewed: int
    """Reviewed questions that are in the training part."""


def prepare(
    questions: Sequence[Question], augmentation_factor: int = 1, reviewed: Sequence[Question] = ()
) -> PreparedQuestions:
    """The whole chain: split by family, decontaminate, remove duplicates, and augment the training part.

    Of near duplicates in two splits the held-out question stays, then the tuning question. ``reviewed`` are accepted
    corrections of answers: they join the training part and no other, unless a tuning or held-out question is like
    theirs, whatever its answer; there they take the place of what they are near duplicates of.
    """
    parts = split_by_family(questions)
    unlike, _ = decontaminate(reviewed, parts["tuning"] + parts["held_out"], text=lambda each: each.question)
    parts["train"] = [*unlike, *parts["train"]]
    tuning, from_tuning = decontaminate(parts["tuning"], parts["held_out"])
    training, from_training = decontaminate(parts["train"], tuning + parts["held_out"])
    unique = {"train": remove_duplicates(training), "tuning": remove_duplicates(tuning)}
    unique["held_out"] = remove_duplicates(parts["held_out"])
    augmented = augment(unique["train"].questions, augmentation_factor)
    return PreparedQuestions(
        splits={
            "train": augmented,
            "tuning": unique["tuning"].questions,
            "held_out": unique["held_out"].questions,
        },
        exact_duplicates=sum(part.exact for part in unique.values()),
        near_duplicates=sum(part.near for part in unique.values()),
        contaminated=from_tuning + from_training,
        augmented=len(augmented) - len(unique["train"].questions),
        reviewed=len({each.id for each in reviewed} & {each.id for each in unique["train"].questions}),
    )


def read(path: Path) -> list[Question]:
    """Questions of a JSONL or CSV file whose fields are those of ``Question``.

    ``id`` may be absent (the file's name and the line then), ``family`` too (the id then), ``kind`` follows from the
    options, and ``letter`` from the option that the answer is. A CSV has the options in columns ``option_a``,
    ``option_b``, … and references parted by semicolons.

    Raises:
        InputError: the file is missing, of another type, not UTF-8, without questions, has rows that are not
            questions, or says an id twice.
    """
    if path.suffix not in (".jsonl", ".csv"):
        raise InputError(
            f"{path.name} is neither .jsonl nor .csv; write the questions in one of these forms."
        )
    questions, bad = [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = _csv_rows(file) if path.suffix == ".csv" else _jsonl_rows(file)
            for line, row in rows:
                parsed = _parse(row, f"{path.stem}-{line}")
                if isinstance(parsed, Question):
                    questions.append(parsed)
                else:
                    bad.append((line, parsed))
    except FileNotFoundError:
        raise InputError(f"There is no file {path} with questions.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path.name} is not text in UTF-8; save it as UTF-8 and read it again.") from None
    except csv.Error:
        raise InputError(
            f"{path.name} is no CSV: a quotation mark is not closed, or a field is too long; correct it there."
        ) from None
    _refuse_bad_rows(path, bad, len(questions))
    _refuse_repeated_ids(path, questions)
    return questions


def write(path: Path, questions: Iterable[Question]) -> None:
    """Writes questions as JSONL, which ``read`` reads back equal."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(question.model_dump_json(exclude_defaults=True) + "\n" for question in questions)


def _compared(question: Question) -> str:
    """The text by which questions are compared: with its answer, where that is short.

    So "Which of the following is true?" is not one question however often it is asked, and a short answer and a
    multiple choice about the same are.
    """
    short = len(words(question.answer)) <= _LONGEST_COMPARED_ANSWER
    return f"{question.question} {question.answer}" if short else question.question


def remove_duplicates(questions: Sequence[Question]) -> Deduplicated:
    """Removes exact and near duplicates; of each group the first question stays."""
    kept, keys, exact, near = [], set[tuple[str, ...]](), 0, 0
    texts = [_compared(question) for question in questions]
    index = NearDuplicateIndex(texts, NEAR_DUPLICATE)
    for question, text in zip(questions, texts, strict=True):
        key = tuple(words(text))
        if key in keys:
            exact += 1
        elif index.has_near_duplicate(text):
            near += 1
        else:
            kept.append(question)
            keys.add(key)
            index.add(text)
    return Deduplicated(kept, exact, near)


def decontaminate(
    training: Sequence[Question], test: Sequence[Question], text: Callable[[Question], str] = _compared
) -> tuple[list[Question], int]:
    """Training questions without exact or near duplicates of any test question, by their ``text``, and how many were
    removed."""
    texts = [text(question) for question in training]
    test_texts = [text(question) for question in test]
    index = NearDuplicateIndex([*texts, *test_texts], NEAR_DUPLICATE)
    for one in test_texts:
        index.add(one)
    kept = [
        question for question, one in zip(training, texts, strict=True) if not index.has_near_duplicate(one)
    ]
    return kept, len(training) - len(kept)


def split_by_family(questions: Iterable[Question]) -> dict[Split, list[Question]]:
    """Train, tuning and held-out questions by a salted hash of the family (``mediscale.core.splits``)."""
    splits: dict[Split, list[Question]] = {split: [] for split in SPLITS}
    for question in questions:
        splits[assign_split(question.family)].append(question)
    return splits


def augment(training: Sequence[Question], factor: int) -> list[Question]:
    """Training questions, each in up to ``factor`` forms: as it is, and paraphrased by rules.

    Only the frame of the question changes, and the order of the options; family, answer and references stay.

    Raises:
        ValueError: the factor is less than 1 or more than there are forms.
    """
    if not 1 <= factor <= _MOST_FORMS:
        raise ValueError(f"the augmentation factor is {factor}; it must be 1 to {_MOST_FORMS}")
    return [form for question in training for form in _forms(question, factor)]


def _forms(question: Question, factor: int) -> Iterator[Question]:
    yield question
    paraphrases = (
        re.sub(pattern, form, question.question)
        for pattern, form in _FRAMES
        if re.fullmatch(pattern, question.question)
    )
    for number, text in zip(range(1, factor), paraphrases, strict=False):
        yield question.model_copy(
            update={"id": f"{question.id}~{number}", "question": text, **_rotated_options(question, number)}
        )


_MOST_FORMS = 1 + sum(pattern == r"(?s:(.+))" for pattern, _ in _FRAMES)
"""The question itself and the paraphrases that every question has."""


def _rotated_options(question: Question, by: int) -> dict[str, Any]:
    """Options moved round, so that a model cannot learn letters by heart."""
    if not question.options:
        return {}
    by %= len(question.options)
    options = question.options[by:] + question.options[:by]
    return {"options": options, "letter": _LETTERS[options.index(question.answer)]}


def _jsonl_rows(file: Iterable[str]) -> Iterator[tuple[int, Any]]:
    for line, text in enumerate(file, start=1):
        if text.strip():
            try:
                yield line, json.loads(text)
            except json.JSONDecodeError:
                yield line, None


def _csv_rows(file: Iterable[str]) -> Iterator[tuple[int, Any]]:
    reader = csv_rows.reader("".join(file))
    for cells in reader:
        row: dict[str, Any] = {
            name: cell for name, cell in cells.items() if cell and not (name or "").startswith("option_")
        }
        options = [cells[name] for letter in _LETTERS.lower() if cells.get(name := f"option_{letter}")]
        if options:
            row["options"] = options
        if "references" in row:
            row["references"] = [each.strip() for each in row["references"].split(";")]
        yield reader.line_num, row


def _parse(row: object, default_id: str) -> Question | str:
    """The question of a row, or what is wrong with the row (without its text)."""
    if not isinstance(row, dict):
        return "it is not a JSON object"
    row = {"id": default_id, "kind": "multiple_choice" if row.get("options") else "short_answer"} | row
    row.setdefault("family", row["id"])
    options = row.get("options")
    if isinstance(options, list) and row.get("answer") in options[: len(_LETTERS)]:
        row.setdefault("letter", _LETTERS[options.index(row["answer"])])
    try:
        return Question.model_validate(row)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = f"`{'.'.join(map(str, first['loc']))}`: " if first["loc"] else ""
        return place + first["msg"].removeprefix("Value error, ")


def _refuse_bad_rows(path: Path, bad: Sequence[tuple[int, str]], good: int) -> None:
    if bad:
        line, reason = bad[0]
        raise InputError(
            f"{path.name} has {len(bad)} of {len(bad) + good} rows that are not questions; the first is on line "
            f"{line}: {reason}. Correct or remove them."
        )
    if not good:
        raise InputError(f"{path.name} has no questions.")


def _refuse_repeated_ids(path: Path, questions: Sequence[Question]) -> None:
    repeated = [number for number in Counter(each.id for each in questions).values() if number > 1]
    if repeated:
        raise InputError(
            f"{path.name} says {len(repeated)} ids twice or more; give each question an id of its own."
        )
