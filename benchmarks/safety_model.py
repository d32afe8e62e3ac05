"""Trains the linear model of harmful requests, and prints what it finds of kinds of harm that it never saw.

    .venv/bin/python -m benchmarks.safety_model --medsafetybench FOLDER --medquad FILE --pubmedqa FILE

Harmful: the requests of MedSafetyBench (Han et al. 2024, arXiv:2403.03744; MIT, for research) and our own
development cases. Benign: questions of MedQuAD (CC BY 4.0) and PubMedQA (MIT), our corpus and our own cases, and
requests of the same form as harmful ones with good intents. Words and pairs of words are the inputs; the weights
are written as JSON.
"""

import argparse
import csv
import gzip
import itertools
import json
import random
from pathlib import Path

import numpy as np
import yaml
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from data_pipeline.documents import corpus
from data_pipeline.safety import harm_model
from data_pipeline.safety.check import read

CASES = Path("tests/unit/data_pipeline/safety/development_cases.yaml")
GOOD = yaml.safe_load(Path(__file__).with_name("safety_benign_requests.yaml").read_text(encoding="utf-8"))
BENIGN_FALSE_ALARMS = 0.003
"""The share of written benign requests above the threshold, judged on folds that did not train."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--medsafetybench", type=Path, required=True)
    parser.add_argument("--medquad", type=Path, required=True)
    parser.add_argument("--pubmedqa", type=Path, required=True)
    arguments = parser.parse_args()
    harmful = list(harmful_requests(arguments.medsafetybench))
    written, made = benign_requests(arguments.medquad, arguments.pubmedqa)
    benign = written + made
    texts = [text for _, text in harmful] + benign
    labels = np.array([1] * len(harmful) + [0] * len(benign))
    groups = np.array([group for group, _ in harmful] + [i % 9 for i in range(len(benign))])
    documents = [harm_model.features(read(text)) for text in texts]
    scores = np.zeros(len(texts))
    for group in range(9):
        fitting = groups != group
        vectorizer, model = fit([d for d, f in zip(documents, fitting, strict=True) if f], labels[fitting])
        rest = [d for d, f in zip(documents, fitting, strict=True) if not f]
        scores[~fitting] = model.decision_function(vectorizer.transform(rest))
    threshold = max(0.0, float(np.quantile(scores[len(harmful) :][: len(written)], 1 - BENIGN_FALSE_ALARMS)))
    print(f"{len(harmful)} harmful and {len(benign)} benign requests; threshold {threshold:.2f}")
    above = [text for text, score in zip(written, scores[len(harmful) :], strict=False) if score > threshold]
    print(f"benign above it: {above}")
    for group in range(9):
        of_group = (groups == group) & (labels == 1)
        print(
            f"kind {group + 1}, not trained on: {np.mean(scores[of_group] > threshold):.1%} of {of_group.sum()}"
        )
    vectorizer, model = fit(documents, labels)
    weights = {
        name: round(float(weight), 3)
        for name, weight in zip(vectorizer.get_feature_names_out(), model.coef_[0], strict=True)
        if abs(weight) > 0.02
    }
    record = {
        "intercept": round(float(model.intercept_[0]), 4),
        "threshold": round(threshold, 3),
        "weights": weights,
    }
    harm_model.FILE.write_text(
        json.dumps(record, separators=(",", ":"), sort_keys=True) + "\n", encoding="utf-8"
    )
    print(f"{len(weights)} weights, {harm_model.FILE.stat().st_size // 1024} KiB")


def fit(documents: list[list[str]], labels: np.ndarray) -> tuple[CountVectorizer, LogisticRegression]:
    """The inputs that occur in at least three requests, and their weights."""
    vectorizer = CountVectorizer(analyzer=list, binary=True, min_df=3)
    model = LogisticRegression(C=0.5, class_weight="balanced", max_iter=2000)
    return vectorizer, model.fit(vectorizer.fit_transform(documents), labels)


def harmful_requests(folder: Path) -> list[tuple[int, str]]:
    """The kind of harm, from 0, and the request."""
    requests = []
    for path in sorted(folder.glob("**/*.csv")):
        kind = int(path.stem.rsplit("_", 1)[1]) - 1
        with path.open(encoding="utf-8", newline="") as file:
            requests += [(kind, row["harmful_medical_request"]) for row in csv.DictReader(file)]
    own = yaml.safe_load(CASES.read_text(encoding="utf-8"))["harmful"]
    return requests + [(i % 9, text) for i, text in enumerate(own)]


def benign_requests(medquad: Path, pubmedqa: Path) -> list[list[str]]:
    """Questions of others and our own; and requests with good intents that are made of parts."""
    with gzip.open(medquad, "rt", encoding="utf-8") as file:
        questions = sorted({json.loads(line)["question"] for line in file})
    random.Random(0).shuffle(questions)
    cases = yaml.safe_load(CASES.read_text(encoding="utf-8"))
    own = [text for kind, texts in cases.items() if kind not in ("harmful", "injection") for text in texts]
    made = [
        template.format(who=who, verb=verb, what=what)
        for (template, who), (verb, what) in itertools.product(
            itertools.product(GOOD["templates"], GOOD["who"]), itertools.product(GOOD["verbs"], GOOD["what"])
        )
    ]
    random.Random(1).shuffle(made)
    asked = [question.question for question in corpus.questions()]
    titles = [item["QUESTION"] for item in json.loads(pubmedqa.read_text(encoding="utf-8")).values()]
    return [list(dict.fromkeys([*own, *titles, *GOOD["requests"], *asked, *questions[:1500]])), made[:2500]]


if __name__ == "__main__":
    main()
