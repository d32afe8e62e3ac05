"""What a linear model of instructions in passages finds in documents that it did not see; it trains the packaged one.

    .venv/bin/python benchmarks/passage_injection.py [--data FOLDER] [--write]

Instructions: our own development cases. Clean: sentences of the project's passages, of MedQuAD's answers (CC BY 4.0),
of MTSamples (CC0), of what guidelines say of themselves and to the staff, and of notes, written for this. Found are
instructions in folds that did not train; false alarms are clean documents of those folds with a sentence above the
threshold. Rules and model are counted together, as an index is made.
"""

import argparse
import gzip
import json
import random
import zlib
from collections.abc import Sequence, Set
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from benchmarks.note_analysis import transcriptions
from benchmarks.safety_model import own_cases
from data_pipeline.clinical_text import text as clinical_text
from data_pipeline.clinical_text.sentences import sentences
from data_pipeline.documents import corpus, injected_passages
from data_pipeline.retrieval import embedders
from data_pipeline.safety import injection
from data_pipeline.safety.layer import CheckedText
from mediscale.core.settings import Settings

DATA = Path("../shared/data")
SENTENCE_FALSE_ALARMS = 0.004
"""Share of clean sentences above the threshold, in folds that did not train. With lines about documents and staff and
lines of notes among them, 0.001 finds 76 % of the instructions, 0.004 finds 85 %, and 0.005 88 %, but takes 9 instead
of 6 % of the lines about documents for some. A machine with a Gaussian kernel finds no more at equal false alarms."""
FOLDS, SHORTEST = 5, 8
_LINE, _NOTE_LINE = "line", "note line"
ADMINISTRATION = Path(__file__).with_name("document_administration.txt")
"""Sentences that speak to a reader, as instructions do: what a document replaces, who approved it, what staff does."""
NOTE_LINES = Path(__file__).with_name("note_lines.txt")
"""Lines of notes in their short hand, which is like nothing in a book: "Code status: Full code." """


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--write", action="store_true", help="the weights that an index is made with")
    options = parser.parse_args()
    data = options.data
    if not data.is_dir():
        print(f"There is no folder {data}, so nothing is trained; --data names it.")
        return
    cases = own_cases()
    clean = clean_documents(data)
    rows = [(f"{i} of the cases", text, 1) for i, text in enumerate(cases["injection"])]
    rows += [(f"{i} of the others", text, 0) for i, text in enumerate(cases["no injection"])]
    first_clean = len(rows)
    rows += [
        (name, text[start:end], 0)
        for name, text in clean
        for start, end in sentences(text)
        if end - start > SHORTEST
    ]
    labels = np.array([label for *_, label in rows])
    vectors = embedders.load(Settings(), threads=2).passages([text for _, text, _ in rows])
    folds = np.array([zlib.crc32(name.encode()) % FOLDS for name, *_ in rows])
    scores = np.zeros(len(rows))
    for fold in range(FOLDS):
        trained = _model(vectors[folds != fold], labels[folds != fold])
        scores[folds == fold] = trained.decision_function(vectors[folds == fold])
    threshold = float(np.quantile(scores[first_clean:], 1 - SENTENCE_FALSE_ALARMS))
    by_rule = np.array([_by_rule(text) for _, text, _ in rows])
    fewest = injection.FEWEST_WORDS
    by_model = np.array([len(text.strip("# ").split()) >= fewest for _, text, _ in rows]) & (
        scores > threshold
    )
    both = by_rule | by_model
    alarms = {rows[i][0] for i in range(first_clean, len(rows)) if both[i]}
    print(
        f"{int(labels.sum())} instructions, {len(rows) - first_clean} sentences of {len(clean)} documents and lines"
    )
    print(f"figure: instructions in passages found by rules, % = {100 * by_rule[labels == 1].mean():.1f}")
    print(f"figure: instructions in passages found, % = {100 * both[labels == 1].mean():.1f}")
    _print_alarms([name for name, _ in clean], alarms)
    if options.write:
        model = _model(vectors, labels)
        intercept = np.float32(model.intercept_[0] - threshold)
        np.savez(injected_passages.FILE, weights=model.coef_[0].astype(np.float32), intercept=intercept)


def _print_alarms(names: Sequence[str], alarms: Set[str]) -> None:
    """False alarms, those of lines about documents and staff apart."""
    lines, note_lines = ({name for name in names if name.startswith(kind)} for kind in (_LINE, _NOTE_LINE))
    for what, clean in (
        ("clean documents with a false alarm", set(names) - lines - note_lines),
        ("lines about documents and staff with one", lines),
        ("lines of notes with one", note_lines),
    ):
        print(f"{len(alarms & clean)} of {len(clean)}")
        print(f"figure: {what}, % = {100 * len(alarms & clean) / len(clean):.1f}")


def clean_documents(data: Path) -> list[tuple[str, str]]:
    """Name and text of documents that instruct nobody's model."""
    own = [(f"passage {i}", passage.text) for i, passage in enumerate(corpus.passages())]
    with gzip.open(data / "medquad" / "medquad_with_answers.jsonl.gz", "rt", encoding="utf-8") as file:
        answers = sorted({json.loads(line)["answer"] for line in file})
    notes = sorted(set(transcriptions(data / "mtsamples" / "mtsamples.csv.gz").values()))
    for texts in (answers, notes):
        random.Random(0).shuffle(texts)
    for name, lines in ((_LINE, ADMINISTRATION), (_NOTE_LINE, NOTE_LINES)):
        own += [
            (f"{name} {i}", text) for i, text in enumerate(lines.read_text(encoding="utf-8").splitlines())
        ]
    own += [(f"answer {i}", text[:900]) for i, text in enumerate(answers[:150])]
    return own + [(f"note {i}", text[:900]) for i, text in enumerate(notes[:60])]


def _model(vectors: np.ndarray, labels: np.ndarray) -> LogisticRegression:
    return LogisticRegression(C=10, class_weight="balanced", max_iter=3000).fit(vectors, labels)


def _by_rule(text: str) -> bool:
    return bool(injection.check(CheckedText(clinical_text.read(text))).findings)


if __name__ == "__main__":
    main()
