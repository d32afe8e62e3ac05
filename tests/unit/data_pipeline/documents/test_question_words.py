"""Words that an index does not have are read as it has them, and no drug becomes another one."""

import pytest
from fixtures.indexed_documents import ABSTENTION

from data_pipeline.documents.passages import Document, table
from data_pipeline.retrieval import Index, answer_from, index_files, passage_vectors
from data_pipeline.retrieval.embedder import Embedder
from data_pipeline.retrieval.index_files import Contents
from data_pipeline.retrieval.question_words import in_words_of

TEXTS = (
    "Alteplase is given within 4.5 hours of the onset of ischaemic stroke. Its dose is 0.9 mg/kg.",
    "Nephrotic syndrome is proteinuria of more than 3.5 g a day with oedema. Diabetes is a cause of it.",
    "Nimodipine 60 mg is given every four hours after subarachnoid haemorrhage. Tumours are paralysing.",
)


@pytest.fixture(scope="module")
def index(embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Index:
    rows = table(
        Document(file=f"{n}.txt", source=f"{n}.txt", text=text, digest="0" * 64)
        for n, text in enumerate(TEXTS)
    )
    contents = Contents(rows, passage_vectors.embed(embedder, rows), embedder, abstention=ABSTENTION)
    folder = tmp_path_factory.mktemp("words") / "1"
    index_files.write(folder, "words", 1, contents)
    return Index.open(folder)


@pytest.mark.parametrize(
    ("question", "reading"),
    [
        ("Which dose of tPA in ischemic stroke?", "Which dose of alteplase in ischaemic stroke?"),
        ("What is the dose of Activase?", "What is the dose of alteplase?"),  # a brand of it
        ("what causes nefrotic sindrome", "what causes nephrotic syndrome"),
        ("Nephrotic syndrome with EDEMA", "Nephrotic syndrome with oedema"),
        ("Are tumors paralyzing?", "Are tumours paralysing?"),
        ("How is nimodypine given?", "How is nimodipine given?"),  # it sounds like it
        ("How is nimodapine given?", "How is nimodapine given?"),  # a letter away from it
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


def test_an_answer_says_how_its_question_was_read(index: Index) -> None:
    answer = answer_from(index, "what is nefrotic sindrome")
    assert answer.text.startswith("Nephrotic syndrome is proteinuria of more than 3.5 g a day with oedema.")
    assert answer.text.endswith("It was read as “what is nephrotic syndrome”.")
    assert answer_from(index, "what is nephrotic syndrome").remark == ""
