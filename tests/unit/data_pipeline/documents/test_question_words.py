"""Words that an index does not have are read as it has them, and no drug becomes another one."""

from pathlib import Path

import pytest
from fixtures.indexed_documents import index_of

from data_pipeline.documents.passages import Document, table
from data_pipeline.retrieval import Index, answer_from
from data_pipeline.retrieval.embedder import Embedder
from data_pipeline.retrieval.question_words import in_other_words, in_words_of

TEXTS = (
    "Alteplase is given within 4.5 hours of the onset of ischaemic stroke. Its dose is 0.9 mg/kg.",
    "Nephrotic syndrome is proteinuria of more than 3.5 g a day with oedema. Diabetes is a cause of it.",
    "Nimodipine 60 mg is given every four hours after subarachnoid haemorrhage. Tumours are paralysing.",
    "Low molecular weight heparin: enoxaparin is given in deep vein thrombosis. An ACE inhibitor raises potassium.",
    "Metformin is contraindicated when the estimated filtration rate is below 30. GFR is graded; it is glomerular.",
)


@pytest.fixture(scope="module")
def index(embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Index:
    rows = table(
        Document(file=f"{n}.txt", source=f"{n}.txt", text=text, digest="0" * 64)
        for n, text in enumerate(TEXTS)
    )
    return index_of(embedder, rows, tmp_path_factory.mktemp("words") / "1")


@pytest.mark.parametrize(
    ("question", "reading"),
    [
        ("Which dose of tPA in ischemic stroke?", "Which dose of alteplase in ischaemic stroke?"),
        ("What is the dose of Activase?", "What is the dose of alteplase?"),  # a brand of it
        ("what causes nefrotic sindrome", "what causes nephrotic syndrome"),
        ("Nephrotic syndrome with EDEMA", "Nephrotic syndrome with oedema"),
        ("Are tumors paralyzing?", "Are tumours paralysing?"),
        ("LMWH for DVT?", "low molecular weight heparin for deep vein thrombosis?"),
        ("Which dose in AKI?", "Which dose in AKI?"),  # the index has not what it stands for
        ("Does ramipril raise potassium?", "Does ace inhibitor raise potassium?"),  # one of its class
        ("What is GFR?", "What is GFR?"),  # the index has it
        ("How is nimodypine given?", "How is nimodipine given?"),  # it sounds like it
        (
            "How is nimodapine given?",
            "How is nimodipine given?",
        ),  # a letter away from it, and from no other drug
        ("Is prednisolne a steroid?", "Is prednisolne a steroid?"),  # a letter away from two
        ("How is warfrin given?", "How is warfarin given?"),  # which no passage has
        ("How is fenytoin given?", "How is phenytoin given?"),
        ("Is methanol toxic?", "Is methanol toxic?"),  # no ethanol
        ("What is Caplan's syndrome?", "What is Caplan's syndrome?"),  # no Calan
        ("Is kalium high?", "Is kalium high?"),  # no Valium
        ("Is chlorine toxic?", "Is chlorine toxic?"),  # chloride is no drug by itself
        ("How is nifedipine given?", "How is nifedipine given?"),
        ("What is the dose of tenecteplase?", "What is the dose of tenecteplase?"),
        ("Is proteinuria seen by elderly neighbours?", "Is proteinuria seen by elderly neighbours?"),
        ("", ""),
    ],
)
def test_a_word_is_read_as_the_index_has_it(index: Index, question: str, reading: str) -> None:
    nearest = [index.passage(row) for row in range(len(TEXTS))]
    assert in_words_of(index, question, nearest) == reading
    assert in_words_of(index, reading, nearest) == reading, "read once"


def test_what_abstains_is_asked_again_with_abbreviations_in_full(index: Index) -> None:
    answer = answer_from(index, "metformin at which eGFR contraindicated?")
    assert answer.text.startswith(
        "Metformin is contraindicated when the estimated filtration rate is below 30."
    )
    other = answer_from(index, "What is the starting dose of metformin in the VTE clinic of the GFR unit?")
    assert other.abstained


def test_what_abstains_is_asked_again_by_another_word_for_the_same(index: Index) -> None:
    assert in_other_words(index, "metformin dosage in renal failure?") == "metformin dose in kidney failure?"
    answer = answer_from(index, "metfomin at which eGFR contraindicated?")
    assert answer.text.startswith("Metformin is contraindicated")


def test_what_is_said_of_a_class_answers_only_where_it_is_titled_by_it(
    embedder: Embedder, tmp_path: Path
) -> None:
    texts = {
        "NSAIDs and the kidney": "They lower the filtration rate in kidney disease. Ibuprofen is one of them.",
        "Reversal of anticoagulants": "Bleeding under a vitamin K antagonist with an INR of 2 needs vitamin K.",
    }
    rows = table(
        Document(file=title, source=title, text=text, digest="0" * 64, title=title)
        for title, text in texts.items()
    )
    index = index_of(embedder, rows, tmp_path / "1")
    assert answer_from(index, "Is naproxen bad in kidney disease?").text.startswith(
        "They lower the filtration"
    )
    assert answer_from(index, "What is the target INR for warfarin in atrial fibrillation?").abstained


def test_a_drug_that_was_misspelt_is_what_a_passage_must_speak_of(embedder: Embedder, tmp_path: Path) -> None:
    texts = {
        "Haemorrhage": "Nimodipine is known to all. Ask the pharmacist.",
        "Dose after subarachnoid haemorrhage": "Labetalol 20 mg is the dose every ten minutes after haemorrhage.",
    }
    rows = table(
        Document(file=title, source=title, text=text, digest="0" * 64, title=title)
        for title, text in texts.items()
    )
    index = index_of(embedder, rows, tmp_path / "1")
    for drug, quotes in (("nimodypine", False), ("labetalol", True)):
        answer = answer_from(index, f"What is the dose of {drug} after subarachnoid haemorrhage?")
        assert ("Labetalol 20 mg" in answer.text) == quotes


def test_an_answer_says_how_its_question_was_read(index: Index) -> None:
    answer = answer_from(index, "what is nefrotic sindrome")
    assert answer.text.startswith("Nephrotic syndrome is proteinuria of more than 3.5 g a day with oedema.")
    assert answer.text.endswith("It was read as “what is nephrotic syndrome”.")
    assert answer_from(index, "what is nephrotic syndrome").remark == ""
