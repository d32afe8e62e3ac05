"""A question for one aspect of a topic is not answered by what is said of another one."""

from pathlib import Path

import pytest
from fixtures.indexed_documents import index_of

from data_pipeline.documents.passages import Document, table
from data_pipeline.retrieval import answer_from
from data_pipeline.retrieval.aspects import Aspect, aspect
from data_pipeline.retrieval.embedder import Embedder


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("stroke treatment", Aspect("treatment", "stroke")),
        ("How do I treat cluster headache?", Aspect("treatment", "cluster headache")),
        ("What causes hyperkalaemia?", Aspect("causes", "hyperkalaemia")),
        ("What is the usual management of delirium?", Aspect("treatment", "delirium")),
        ("What does norpethidine cause?", None),
        ("treatment of status epilepticus in children", None),
        ("warfarin and stroke prevention", None),
        ("What is the dose of alteplase?", None),
        (f"stroke{' ' * 100_000}x", None),  # in no time
    ],
)
def test_an_aspect_is_asked_for_where_nothing_else_is(question: str, expected: Aspect | None) -> None:
    assert aspect(question) == expected


@pytest.mark.parametrize(
    ("question", "title", "text", "is_met"),
    [
        ("treatment of stroke", "Stroke Scale", "The score is 0 to 42; a low one is still treated.", False),
        ("treatment of stroke", "Stroke", "Alteplase within 4.5 hours.", True),
        ("treatment of stroke", "Migraine", "Triptans are no treatment after a stroke.", True),
        ("treatment of stroke", "Acute treatment of migraine", "Not after a stroke.", False),
        ("causes of hypercalcaemia", "Hypercalcaemic crisis", "Cancer, above all.", True),
        ("prevention of calcium stones", "Prevention of calcium stones", "Water.", True),
        (
            "prognosis of chronic kidney disease",
            "Definition of chronic kidney disease",
            "Three months.",
            False,
        ),
    ],
)
def test_a_passage_answers_by_its_title_or_in_one_sentence(
    question: str, title: str, text: str, is_met: bool
) -> None:
    asked = aspect(question)
    assert asked is not None
    assert asked.is_met_by(title, text) == is_met


def test_the_treatment_of_something_is_not_what_a_score_says(embedder: Embedder, tmp_path: Path) -> None:
    texts = {
        "Stroke Scale": "The scale of stroke has 42 points. A stroke with few points that disables is treated.",
        "Acute stroke": "In acute stroke alteplase is given within 4.5 hours.",
    }
    rows = table(
        Document(file=title, source=title, text=text, digest="0" * 64, title=title)
        for title, text in texts.items()
    )
    index = index_of(embedder, rows, tmp_path / "1")
    answer = answer_from(index, "What is the treatment of stroke?")
    assert {passage.title for passage in answer.quoted} <= {"Acute stroke"}
    assert "points" not in answer.text
