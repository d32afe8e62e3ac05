"""An index is searched by what it means and by its words, shows nobody what is not theirs, and is read only whole."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fixtures.indexed_documents import ANYBODY, FOR_CLINICIANS, index_of

from data_pipeline.documents import corpus, readers
from data_pipeline.documents.passages import Document, table
from data_pipeline.retrieval import Index, answer_from, support
from data_pipeline.retrieval.embedder import Embedder
from mediscale.core.errors import NotFoundError, StorageError

CLINICIAN = frozenset({"clinician"})
TEXTS = ANYBODY | FOR_CLINICIANS


@pytest.fixture(scope="module")
def index(indexed_documents: Path) -> Index:
    return Index.open(indexed_documents)


@pytest.mark.parametrize(
    ("question", "file"),
    [
        ("thrombolysis for cerebral infarction", "alteplase.txt"),  # not one word is in it
        ("G5", "ckd.txt"),  # a word that no embedding knows
        ("How often is a patient dialysed?", "dialysis.txt"),
    ],
)
def test_meaning_and_words_both_find(index: Index, question: str, file: str) -> None:
    assert index.search(question, 1)[0].source == file


def test_a_passage_says_where_it_stands(index: Index) -> None:
    for passage in index.search("stroke", 6, CLINICIAN):
        assert passage.text == TEXTS[passage.source][passage.start : passage.end]
        assert (passage.date, len(passage.digest)) == ("2024", 64)


def test_nobody_is_shown_what_is_not_theirs(index: Index) -> None:
    question = "Which cupboard of which ward keeps alteplase?"
    assert index.search(question, 1, CLINICIAN)[0].source == "protocol.txt"
    assert answer_from(index, question, CLINICIAN).sentences[0].citations[0].source == "protocol.txt"
    for roles in (frozenset[str](), frozenset({"engineer"})):
        assert "protocol.txt" not in {each.source for each in index.search(question, 10, roles)}
        assert len(index.search(question, 10, roles)) == len(ANYBODY)
        answer = answer_from(index, question, roles)
        assert all("cupboard" not in passage.text for passage in answer.passages)
        assert answer.abstained


def test_an_answer_quotes_or_abstains(index: Index) -> None:
    answer = answer_from(index, "Within how many hours of the onset of stroke is alteplase given?")
    assert not answer.abstained
    assert answer.sentences[0].text == "Alteplase is given within 4.5 hours of the onset of ischaemic stroke."
    for sentence in answer.sentences:
        (citation,) = sentence.citations
        assert TEXTS[citation.source][citation.start : citation.end] == citation.text == sentence.text
    unanswered = answer_from(index, "Which antibiotic treats cholera in pregnant travellers?")
    assert unanswered.abstained
    assert unanswered.sentences == ()
    assert unanswered.text == "The indexed documents do not answer this question."
    assert unanswered.confidence < 0.5
    assert answer_from(index, "?").abstained


@pytest.mark.parametrize(
    ("question", "sources", "missing"),
    [
        (
            "Within how many hours of stroke is alteplase given and how often is haemodialysis done?",
            ["alteplase.txt", "dialysis.txt"],
            "",
        ),
        ("What raises potassium? When is it measured?", ["potassium.txt"], ""),
        (
            "Which antibiotic treats cholera in travellers and what raises potassium?",
            ["potassium.txt"],
            "Not answered here: the first part of the question; ask that by itself.",
        ),
        ("Which antibiotic treats cholera and which vaccine prevents measles?", [], ""),
    ],
)
def test_each_fact_that_is_asked_for_is_quoted_or_said_to_be_missing(
    index: Index, question: str, sources: list[str], missing: str
) -> None:
    answer = answer_from(index, question)
    cited = [each.source for sentence in answer.sentences for each in sentence.citations]
    assert list(dict.fromkeys(cited)) == sources
    assert len({sentence.text for sentence in answer.sentences}) == len(answer.sentences), "said twice"
    assert answer.remark == missing
    assert answer.abstained == (not sources)
    assert answer.text.endswith(missing)


@pytest.fixture(scope="module")
def passages_index(embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """A part of the project's own passages."""
    every = readers.read([corpus.FOLDER / "passages.jsonl"]).documents
    rows = table([each for each in every if each.place.partition("/")[2] in PLACES])
    return index_of(embedder, rows, tmp_path_factory.mktemp("passages") / "1")


PLACES = (
    "hypokalaemia", "hyperkalaemia-ecg", "loop-diuretics", "thiazides", "iga", "membranous", "gbs",
    "trigeminal", "ckd-definition",
)  # fmt: skip


@pytest.mark.parametrize(
    ("question", "place", "quote"),
    [
        ("Which waves appear on the electrocardiogram in hypokalaemia?", "hypokalaemia", "U waves"),
        ("Which transporter do loop diuretics block?", "loop-diuretics", "sodium-potassium-chloride"),
        ("What is the treatment for IgA nephropathy?", "iga", "Treatment begins with"),
        ("How is trigeminal neuralgia treated?", "trigeminal", "Carbamazepine"),
        ("How is Guillain-Barre syndrome treated?", "gbs", "Immunoglobulin"),  # without the accent
    ],
)
def test_what_is_quoted_has_what_is_asked_and_not_what_is_near_to_it(
    passages_index: Index, question: str, place: str, quote: str
) -> None:
    """A passage of the same topic may be nearer, and the sentence that defines the topic has most of its words."""
    answer = answer_from(passages_index, question)
    assert {citation.place.partition("/")[2] for s in answer.sentences for citation in s.citations} == {place}
    assert quote in answer.text


@pytest.mark.parametrize(
    ("first", "is_quoted"),
    [
        ("Stroke Unit, St. Elsewhere Hospital\nNeurology, ward 7", False),
        ("Stroke Unit, Telephone 0123 456", True),
        ("Stroke Unit Target INR 2-3", True),
        ("Stroke Unit and Vitamin K", True),
        ("The Stroke Unit Admits Everybody.", True),
        ("stroke unit beds are full", True),
    ],
)
def test_a_letterhead_is_no_answer(embedder: Embedder, tmp_path: Path, first: str, is_quoted: bool) -> None:
    text = f"{first}\n\nWho has an acute stroke is admitted at once. A physiotherapist comes within a day."
    document = Document(file="a.txt", source="a.txt", text=text, digest="0" * 64, date="", roles=())
    answer = answer_from(index_of(embedder, table([document]), tmp_path / "1"), "stroke unit")
    assert not answer.abstained
    assert (" ".join(first.split()) in answer.text) == is_quoted


def test_vectors_are_of_unit_length_and_do_not_depend_on_their_batch(embedder: Embedder) -> None:
    texts = ["Short.", "A rather long sentence about the kidneys, the brain and what both need.", "Stroke"]
    vectors = embedder.passages(texts)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    for text, vector in zip(texts, vectors, strict=True):
        assert np.array_equal(embedder.passages([text])[0], vector), "whatever was read beside it"


def test_a_changed_or_missing_file_is_refused(indexed_documents: Path, tmp_path: Path) -> None:
    copy = tmp_path / "index"
    for name in json.loads((indexed_documents / "manifest.json").read_text())["files"]:
        shutil.copytree(indexed_documents, copy)
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / name).write_bytes(content)
        with pytest.raises(StorageError, match=f"1 files of the index documents/1 are not as .*{name}"):
            Index.open(copy)
        (copy / name).unlink()
        with pytest.raises(StorageError, match=name):
            Index.open(copy)
        shutil.rmtree(copy)
    with pytest.raises(NotFoundError, match="There is no index in"):
        Index.open(copy)


def test_an_index_of_another_release_is_refused(tmp_path: Path) -> None:
    """Whatever else its manifest holds; the sentence says what to do."""
    (tmp_path / "manifest.json").write_text('{"format": 1, "parts": []}')
    with pytest.raises(
        StorageError, match=r"has format 1, and this release reads format 5: make it again from"
    ):
        Index.open(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(StorageError, match=r"The manifest of the index in .* is damaged"):
        Index.open(tmp_path)


def test_nothing_in_an_index_is_pickled(indexed_documents: Path) -> None:
    names = sorted(path.relative_to(indexed_documents).as_posix() for path in indexed_documents.rglob("*.*"))
    assert names == [
        "abstention.json", "bm25/data.csc.index.npy", "bm25/indices.csc.index.npy", "bm25/indptr.csc.index.npy",
        "bm25/params.index.json", "bm25/vocab.index.json", "embedder.onnx", "first_sentences.npy",
        "manifest.json", "passages.arrow", "sentences.npy", "tokenizer.json", "vectors.faiss",
    ]  # fmt: skip
    for name in names:
        if name.endswith(".npy"):
            np.load(indexed_documents / name, allow_pickle=False)


@pytest.mark.parametrize(
    ("sentence", "supported"),
    [
        ("Alteplase is given within 4.5 hours of the onset of ischaemic stroke.", True),
        ("Alteplase is given within 6 hours of the onset of ischaemic stroke.", False),
        ("Alteplase is not given within 4.5 hours of the onset of ischaemic stroke.", False),
        ("Kidneys filter blood.", False),
    ],
)
def test_a_sentence_is_supported_or_not(sentence: str, supported: bool) -> None:
    sources = [TEXTS["dialysis.txt"], TEXTS["alteplase.txt"]]
    found = support(sentence, sources)
    assert found.supported == supported
    if supported:
        assert sources[found.source][found.start : found.end] == sentence
