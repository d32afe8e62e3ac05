"""The corpus that the project wrote itself: passages on neurology and nephrology, and questions about them."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from data_pipeline.documents import questions as question_files
from data_pipeline.documents.questions import Question
from mediscale.core.refs import Frozen

FOLDER = Path(__file__).parent


class Passage(Frozen):
    """One short text about one fact or a few that belong together."""

    id: str
    specialty: Literal["neurology", "nephrology"]
    topic: str
    title: str
    text: str
    source: str = Field(min_length=1)
    """Public reference by name and year."""
    evidence_year: int
    """When the reference was published; for a label, when it said so."""


def passages() -> list[Passage]:
    """All passages, in the order in which they were written."""
    lines = (FOLDER / "passages.jsonl").read_text(encoding="utf-8").splitlines()
    return [Passage.model_validate_json(line) for line in lines]


def questions() -> list[Question]:
    """Two to five questions per passage, multiple choice among them.

    ``references`` names the passage that a question was written on, and every other one that answers it, too; each
    has the answer's words.
    """
    return question_files.read(FOLDER / "questions.jsonl")
