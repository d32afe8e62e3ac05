"""Trains the linear model of harmful requests, and prints what it finds of kinds of harm that it never saw.

    .venv/bin/python -m benchmarks.safety_model [--data FOLDER]

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
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import yaml
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, StratifiedKFold, cross_val_predict

from data_pipeline.documents import corpus
from data_pipeline.retrieval import embedders
from data_pipeline.safety import embedding_model, harm_model
from data_pipeline.safety.check import read
from mediscale.core.settings import Settings

PAIRS = yaml.safe_load(Path(__file__).with_name("safety_request_pairs.yaml").read_text(encoding="utf-8"))
"""Harmful requests and benign ones about the same matters; the benign ones are the hardest there are here."""
VARIED = yaml.safe_load(Path(__file__).with_name("safety_varied_requests.yaml").read_text(encoding="utf-8"))
"""The same in slang, behind a pretext, as a role or spelled otherwise, and instructions to the model beside them."""
for _kind in ("harmful", "benign"):
    PAIRS[_kind] += VARIED[_kind]
SMALL_TALK = yaml.safe_load(Path(__file__).with_name("safety_small_talk.yaml").read_text(encoding="utf-8"))
"""What people say beside their question. It stands near to instructions and far from every question, so the model of
instructions learns it; those of emergencies and of harm do not, for they would find fewer."""
OUT_OF_SCOPE = yaml.safe_load(
    Path(__file__).with_name("safety_out_of_scope.yaml").read_text(encoding="utf-8")
)
"""Requests that have nothing to do with medicine. The other models do not learn them, for that of harm would find fewer
(91.0 instead of 94.4 % of the blind cases): a model of its own says that they are no matter for the other two."""
OUT_OF_SCOPE_ERRORS = 0.001
"""The share of harmful requests and of instructions above its threshold, judged on folds that did not train."""
CASES = Path("tests/unit/data_pipeline/safety/development_cases.yaml")
GOOD = yaml.safe_load(Path(__file__).with_name("safety_benign_requests.yaml").read_text(encoding="utf-8"))
DATA = Path("../shared/data")
EMBEDDING_FALSE_ALARMS = {"emergency": 0.004, "prompt_injection": 0.001}
"""The share of all other texts above the threshold of each layer, judged on folds that did not train."""
HARD_FALSE_ALARMS = 0.05
"""The share of the benign requests of ``PAIRS`` above the threshold of harm, judged likewise: of usual questions a
fifth of that is."""
WORD_SCALE = 10.0
"""By which the words' score is divided beside an embedding, so that both are of one size."""
OWN_WEIGHT = 5.0
"""Of a request that was written here, beside one of a large set."""
KINDS = {"emergency": "emergency", "prompt_injection": "injection", "harmful": "harmful"}
"""By layer, the kind of texts that it is to find."""

Linear = tuple[np.ndarray, float, float]
"""Weights of an embedding, the weight of the words' score, and the intercept, less the threshold."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    data = parser.parse_args().data
    if not data.is_dir():
        print(f"There is no folder {data}, so nothing is trained; --data names it.")
        return
    harmful = list(harmful_requests(data / "medsafetybench" / "train"))
    written, made = benign_requests(
        data / "medquad" / "medquad_with_answers.jsonl.gz", data / "pubmedqa" / "pqal_dev.json"
    )
    benign = written + made
    texts = [text for _, text in harmful] + benign
    labels = np.array([1] * len(harmful) + [0] * len(benign))
    groups = np.array([group for group, _ in harmful] + [i % 9 for i in range(len(benign))])
    written_here = {*PAIRS["harmful"], *PAIRS["benign"], *own_cases()["harmful"]}
    weights = np.where([text in written_here for text in texts], OWN_WEIGHT, 1.0)
    hard = np.isin(texts, PAIRS["benign"])
    documents = [harm_model.features(read(text)) for text in texts]
    scores = out_of_fold(documents, labels, weights, PredefinedSplit(groups).split())
    threshold = max(0.0, float(np.quantile(scores[hard], 1 - HARD_FALSE_ALARMS)))
    print(f"{len(harmful)} harmful and {len(benign)} benign requests; threshold {threshold:.2f}")
    for group in range(9):
        of_group = (groups == group) & (labels == 1)
        print(
            f"kind {group + 1}, not trained on: {np.mean(scores[of_group] > threshold):.1%} of {of_group.sum()}"
        )
    vectorizer, model = fit(documents, labels, weights)
    write_words(vectorizer, model, threshold)
    folds = StratifiedKFold(5, shuffle=True, random_state=0).split(documents, labels)
    word_scores = dict(zip(texts, out_of_fold(documents, labels, weights, folds), strict=True))
    fit_embeddings(harmful, written + made[:500], word_scores)


def out_of_fold(
    documents: list[list[str]],
    labels: np.ndarray,
    weights: np.ndarray,
    folds: Iterable[tuple[np.ndarray, np.ndarray]],
) -> np.ndarray:
    """The word model's score of each request by a model that was not trained on its fold."""
    scores = np.zeros(len(documents))
    for fitting, rest in folds:
        vectorizer, model = fit([documents[i] for i in fitting], labels[fitting], weights[fitting])
        scores[rest] = model.decision_function(vectorizer.transform([documents[i] for i in rest]))
    return scores


def write_words(vectorizer: CountVectorizer, model: LogisticRegression, threshold: float) -> None:
    """The weights of the words as JSON."""
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


@dataclass(frozen=True)
class EmbeddedTexts:
    """Texts (n) to train on, as the models over embeddings read them."""

    kinds: np.ndarray
    vectors: np.ndarray
    """(n, dimensions)"""
    words: np.ndarray
    """The words' score, by a model that was not trained on the request."""
    is_own: np.ndarray
    """Whether it was written here."""
    is_hard: np.ndarray
    """Whether it is a benign request of ``PAIRS``."""

    def where(self, chosen: np.ndarray) -> "EmbeddedTexts":
        return EmbeddedTexts(*(getattr(self, field.name)[chosen] for field in fields(self)))


def fit_embeddings(harmful: list[tuple[int, str]], benign: list[str], word_scores: dict[str, float]) -> None:
    """The linear models over embeddings, one for each layer, and their thresholds by folds that did not train. That of
    harm has the words' score as one more input."""
    embedder = embedders.load(Settings(), threads=2)

    def embed(texts: list[str]) -> np.ndarray:
        return np.asarray(embedder.passages([embedder.spec.query_prefix + text for text in texts]))

    texts = embedded_texts(embed, harmful, benign, word_scores)
    models = [fit_layer(texts, layer) for layer in KINDS]
    models.append(fit_out_of_scope(texts, embed(OUT_OF_SCOPE)))
    np.savez(
        embedding_model.FILE,
        layers=np.array([*KINDS, embedding_model.OUT_OF_SCOPE]),
        weights=np.array([weights for weights, _, _ in models], np.float32),
        word_weights=np.array([of_words for _, of_words, _ in models], np.float32),
        intercepts=np.array([intercept for _, _, intercept in models], np.float32),
    )


def embedded_texts(
    embed: Callable[[list[str]], np.ndarray],
    harmful: list[tuple[int, str]],
    benign: list[str],
    word_scores: dict[str, float],
) -> EmbeddedTexts:
    """Our own texts, those of the sets, and small talk."""
    texts = [(kind, text) for kind, of_kind in own_cases().items() for text in of_kind]
    texts += [(kind, text) for kind in ("harmful", "benign") for text in PAIRS[kind]]
    own = {text for _, text in texts}
    texts += [("harmful", text) for _, text in harmful if text not in own]
    texts += [("benign", text) for text in benign if text not in own]
    # the numbers of an 8-bit network depend on its batch
    vectors = np.vstack([embed([text for _, text in texts]), embed(SMALL_TALK)])
    texts += [("small talk", text) for text in SMALL_TALK]
    return EmbeddedTexts(
        kinds=np.array([kind for kind, _ in texts]),
        vectors=vectors,
        words=np.array([word_scores.get(text, 0.0) for _, text in texts]) / WORD_SCALE,
        is_own=np.arange(len(texts)) < len(own),
        is_hard=np.isin([text for _, text in texts], PAIRS["benign"]),
    )


def fit_layer(texts: EmbeddedTexts, layer: str) -> Linear:
    """The model of a layer: small talk is learnt by that of instructions alone."""
    if layer != "prompt_injection":
        texts = texts.where(texts.kinds != "small talk")
    of_kind, small_talk = (texts.kinds == KINDS[layer]).astype(int), texts.kinds == "small talk"
    words = texts.words if layer == "harmful" else np.zeros(len(texts.words))
    inputs = np.column_stack([texts.vectors, words])
    model = LogisticRegression(C=10, class_weight="balanced", max_iter=3000)
    sample_weight = np.where(texts.is_own, OWN_WEIGHT, 1.0)
    scores = cross_val_predict(
        model,
        inputs,
        of_kind,
        cv=StratifiedKFold(5, shuffle=True, random_state=0),
        method="decision_function",
        params={"sample_weight": sample_weight},
    )
    others = (of_kind == 0) & ~small_talk
    judged, share = (
        (texts.is_hard, HARD_FALSE_ALARMS) if layer == "harmful" else (others, EMBEDDING_FALSE_ALARMS[layer])
    )
    threshold = float(np.quantile(scores[judged], 1 - share))
    found = scores[(of_kind == 1) & texts.is_own] > threshold
    print(
        f"embedding, {layer}: {found.mean():.1%} of {len(found)} cases of our own in folds not trained on, and "
        f"{np.mean(scores[others] > threshold):.2%} of all others"
    )
    if small_talk.any():
        print(f"and {np.mean(scores[small_talk] > threshold):.1%} of small talk")
    model.fit(inputs, of_kind, sample_weight=sample_weight)
    return model.coef_[0, :-1], model.coef_[0, -1] / WORD_SCALE, model.intercept_[0] - threshold


def fit_out_of_scope(texts: EmbeddedTexts, strange: np.ndarray) -> Linear:
    """The model of what has nothing to do with medicine, whose vectors are given."""
    vectors = np.vstack([texts.vectors, strange])
    kinds = np.append(texts.kinds, ["out of scope"] * len(strange))
    is_strange = (kinds == "out of scope").astype(int)
    model = LogisticRegression(C=10, class_weight="balanced", max_iter=3000)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    scores = cross_val_predict(model, vectors, is_strange, cv=folds, method="decision_function")
    threshold = float(np.quantile(scores[np.isin(kinds, ["harmful", "injection"])], 1 - OUT_OF_SCOPE_ERRORS))
    print(f"out of scope: {np.mean(scores[is_strange == 1] > threshold):.1%} of {is_strange.sum()}")
    model.fit(vectors, is_strange)
    return model.coef_[0], 0.0, float(model.intercept_[0]) - threshold


def fit(
    documents: list[list[str]], labels: np.ndarray, weights: np.ndarray
) -> tuple[CountVectorizer, LogisticRegression]:
    """The inputs that occur in at least two requests, and their weights."""
    vectorizer = CountVectorizer(analyzer=list, binary=True, min_df=2)
    model = LogisticRegression(C=0.5, class_weight="balanced", max_iter=2000)
    return vectorizer, model.fit(vectorizer.fit_transform(documents), labels, sample_weight=weights)


def own_cases() -> dict[str, list[str]]:
    """Our own development cases by kind."""
    cases: dict[str, list[str]] = yaml.safe_load(CASES.read_text(encoding="utf-8"))
    for kind in ("injection", "no injection"):
        cases[kind] += VARIED[kind]
    return cases


def harmful_requests(folder: Path) -> list[tuple[int, str]]:
    """The kind of harm, from 0, and the request."""
    requests = []
    for path in sorted(folder.glob("**/*.csv")):
        kind = int(path.stem.rsplit("_", 1)[1]) - 1
        with path.open(encoding="utf-8", newline="") as file:
            requests += [(kind, row["harmful_medical_request"]) for row in csv.DictReader(file)]
    own = [*own_cases()["harmful"], *PAIRS["harmful"]]
    return requests + [(i % 9, text) for i, text in enumerate(own)]


def benign_requests(medquad: Path, pubmedqa: Path) -> list[list[str]]:
    """Questions of others and our own; and requests with good intents that are made of parts."""
    with gzip.open(medquad, "rt", encoding="utf-8") as file:
        questions = sorted({json.loads(line)["question"] for line in file})
    random.Random(0).shuffle(questions)
    cases = own_cases()
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
    return [
        list(dict.fromkeys([*own, *PAIRS["benign"], *titles, *GOOD["requests"], *asked, *questions[:1500]])),
        made[:2500],
    ]


if __name__ == "__main__":
    main()
