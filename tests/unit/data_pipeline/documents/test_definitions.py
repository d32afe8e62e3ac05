"""What something is, or what is normal of it, is answered by a passage that says so, not by one that speaks of it."""

import time
from pathlib import Path

import pytest
from fixtures.indexed_documents import ABSTENTION

from data_pipeline.documents import corpus, readers
from data_pipeline.documents.passages import table
from data_pipeline.retrieval import Index, answer_from, index_files, passage_vectors
from data_pipeline.retrieval.definitions import Definition
from data_pipeline.retrieval.embedder import Embedder
from data_pipeline.retrieval.index_files import Contents
from data_pipeline.retrieval.question_parts import defined


@pytest.mark.parametrize(
    ("question", "term", "is_of_normal"),
    [
        ("What is a stroke?", "stroke", False),
        ("what are febrile seizures", "febrile seizures", False),
        ("What's SUDEP?", "SUDEP", False),
        ("What does GFR stand for?", "GFR", False),
        ("Define nephrotic syndrome", "nephrotic syndrome", False),
        ("What is the definition of acute kidney injury?", "acute kidney injury", False),
        ("What is normal potassium?", "potassium", True),
        ("What is the normal range of magnesium?", "magnesium", True),
        ("normal creatinine level", "creatinine", True),
    ],
)
def test_a_definition_is_asked_for(question: str, term: str, is_of_normal: bool) -> None:
    assert defined(question) == Definition(term, is_of_normal)


@pytest.mark.parametrize(
    "question",
    [
        "What is the dose of alteplase?",
        "What is the vancomycin trough?",  # a value
        "What is contraindicated in asthma?",
        "What is heard over a working fistula?",
        "What is category G5 called?",
        "What is normal in the elderly?",
        "What causes a stroke?",
        "Which stroke is small?",
        "stroke",
        "What is " + " \n" * 40_000 + "?",
    ],
)
def test_something_else_is_asked_for(question: str) -> None:
    begun = time.process_time()
    assert defined(question) is None
    assert time.process_time() - begun < 0.5


def test_few_questions_of_the_corpus_are_taken_for_definitions() -> None:
    assert [each.question for each in corpus.questions() if defined(each.question)] == []


@pytest.mark.parametrize(
    ("definition", "title", "text", "is_met"),
    [
        (Definition("stroke", False), "Lacunar syndromes", "Lacunar strokes are the small ones.", False),
        (Definition("stroke", False), "Terms", "It is read first. A stroke is a sudden deficit.", True),
        (Definition("hypertension", False), "Pressure", "Hypertension is pressure above 140.", True),
        (Definition("lithium", False), "Poisons", "Lithium is cleared by the kidneys.", False),
        (Definition("diabetes", False), "Nephrosis", "Lupus is rare; diabetes is the usual cause.", False),
        (Definition("kidney", False), "Definition of chronic kidney disease", "It lasts.", False),
        (Definition("epilepsy", False), "Practical definition of epilepsy", "Two seizures suffice.", True),
        (Definition("delirium", False), "Care of the elderly: 3. Delirium", "It fluctuates.", True),
        (Definition("SUDEP", False), "Risks", "Sudden death in epilepsy (SUDEP) is rare.", True),
        (Definition("potassium", True), "Finerenone", "A rate of 25, normal potassium and albumin.", False),
        (Definition("potassium", True), "Values", "Potassium (normal 3.5 to 5.0 mmol/L) is high.", True),
        (Definition("potassium", True), "Values", "The normal range of potassium is 3.5 to 5.0.", True),
    ],
)
def test_a_passage_says_what_something_is(
    definition: Definition, title: str, text: str, is_met: bool
) -> None:
    assert definition.is_met_by(title, text) == is_met


def test_what_only_speaks_of_a_thing_does_not_say_what_it_is(embedder: Embedder, tmp_path: Path) -> None:
    every = readers.read([corpus.FOLDER / "passages.jsonl"]).documents
    rows = table(each for each in every if each.place.partition("/")[2] in PLACES)
    contents = Contents(rows, passage_vectors.embed(embedder, rows), embedder, abstention=ABSTENTION)
    index_files.write(tmp_path / "1", "own", 1, contents)
    index = Index.open(tmp_path / "1")
    for question in (
        "What is a stroke?",
        "What is normal potassium?",
        "What is a seizure?",
        "What is dialysis?",
    ):
        assert answer_from(index, question).abstained, question
    for question, quote in (
        ("What is hypokalaemia?", "Hypokalaemia is a potassium below 3.5 mmol/L"),
        ("What is hypokalemia?", "Hypokalaemia is a potassium below 3.5 mmol/L"),
        ("What is CKD?", "Chronic kidney disease means that"),
    ):
        assert quote in answer_from(index, question).text, question


PLACES = (
    "lacunar", "fast", "hyperkalaemia-ecg", "hypokalaemia", "finerenone", "ckd-definition", "epilepsy-definition",
    "when-to-start", "rrt-indications", "febrile-seizure",
)  # fmt: skip
