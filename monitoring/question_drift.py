"""Drift of questions: whether a language model is still asked, refused and left without an answer as it was before.

Three things are judged as one family with one rate of false alarms (Holm 1979): the share of questions that the safety
layers refused and the share that no document answered, the share in which each layer found something, and whether the
questions themselves are others. The last by a classifier two-sample test (Lopez-Paz and Oquab, ICLR 2017): a logistic
regression on embeddings is trained to tell the window from the questions before it, and Mann and Whitney's test says
whether it can on questions that it has not seen. The log keeps no finding of a layer, so questions of both sides are
read again by the layers of this release: a rule that changed in between is no drift. No question leaves this module.

How many figures drifted is a row of ``performance_language``, of the version that answered last, which ``/metrics``
exports and alerts read.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NaiveDatetime

from mediscale.core.annotations import PatientCount
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import Context, Stage
from mediscale.core.tables import PERFORMANCE, PREDICTIONS
from mediscale.core.task_names import LANGUAGE
from mediscale.storage import commits, lake
from monitoring import performance_figures
from monitoring.log_window import LogWindow

if TYPE_CHECKING:
    import pyarrow.compute as pc

    from data_pipeline.retrieval.embedder import Vectors

RELEVANT_SHARE = 0.05
"""A share that changed by less is no drift, however many questions show it."""
RELEVANT_AUC = 0.6
"""A classifier that tells the questions apart no better than this sees no drift that matters."""
REFUSED, ABSTAINED, QUESTIONS = "refused", "abstained", "questions"
DRIFTED_FIGURES = "drifted_figures"
"""The metric of the verdict's row."""


class Params(LogWindow):
    reference_days: int = Field(28, ge=1)
    """The window is held against the questions of so many days before it."""
    min_questions: int = Field(50, ge=20)
    """With fewer on either side, the verdict is that there are too few."""
    max_questions: int = Field(2000, ge=50)
    """Of either side, drawn at random where there are more."""


class ShareDrift(Frozen):
    """A share of the window's questions beside that of the reference's, by Fisher's exact test."""

    name: str
    """``refused``, ``abstained`` or a safety layer."""
    share: float
    reference_share: float
    p_value: float
    drifted: bool


class EmbeddingDrift(Frozen):
    """How well a classifier tells the window's questions from the reference's."""

    auroc: float
    """On questions that it was not trained on; 0.5 where they are alike."""
    p_value: float
    drifted: bool


class Result(Frozen):
    dataset: str
    start: NaiveDatetime
    end: NaiveDatetime
    n: PatientCount
    """Questions of the window that were judged."""
    n_reference: PatientCount
    drifted: bool
    summary: str
    """The verdict in a sentence."""
    shares: tuple[ShareDrift, ...] = ()
    embeddings: EmbeddingDrift | None = None
    series: TableRef | None = None
    """Where the verdict's row is; None where no version answered."""


@dataclass(frozen=True)
class Side:
    """The questions of a time as they are judged: their vectors (n, dimensions), and how many show what."""

    vectors: "Vectors"
    counts: Counter[str]

    def __len__(self) -> int:
        return len(self.vectors)


def run(params: Params, settings: Settings, key: str) -> Result:
    """Judges one window, and writes its row.

    Raises:
        StorageError: the table is not the one referred to.
        UsageError: the packaged embedder is not installed.
    """
    result = _verdict(params, settings)
    version = _newest_version(params, settings)
    if version is None:
        return result
    return result.model_copy(update={"series": _append_verdict(settings, result, version, key)})


def _verdict(params: Params, settings: Settings) -> Result:
    generator = np.random.default_rng(params.seed)
    before = params.start - timedelta(days=params.reference_days)
    window = _answers(params, settings, params.start, params.end, generator)
    reference = _answers(params, settings, before, params.start, generator)
    fewest = min(len(window), len(reference))
    if fewest < params.min_questions:
        summary = f"too few questions ({count(fewest)} of {params.min_questions} in the window or before it)"
        return _result(params, len(window), len(reference), summary)
    return _judged(params, _embed(settings, window), _embed(settings, reference), generator)


def _newest_version(params: Params, settings: Settings) -> int | None:
    """The version that answered last, in the window or before it."""
    import pyarrow.compute as pc

    before = params.start - timedelta(days=params.reference_days)
    rows = lake.dataset(settings, params.predictions).to_table(
        columns=["model_version", "predicted_at"], filter=_in_window(before, params.end)
    )
    versions = rows.sort_by("predicted_at")["model_version"]
    return None if pc.count(versions).as_py() == 0 else int(versions[-1].as_py())


def _append_verdict(settings: Settings, result: Result, version: int, key: str) -> TableRef | None:
    """Appends the row of a verdict, once: how many figures drifted, null where there were too few questions."""
    embeddings = result.embeddings
    moved = None if embeddings is None else sum(one.drifted for one in result.shares) + embeddings.drifted
    figure = performance_figures.of_moved(result.start, result.end, DRIFTED_FIGURES, result.n, moved)
    table = f"{PERFORMANCE.name}_{LANGUAGE}"
    rows = performance_figures.rows([figure], version, result.end)
    return lake.find_commit(settings, result.dataset, table, key) or commits.commit(
        settings, table, rows, result.dataset, {key: 1}
    )


def _answers(
    params: Params, settings: Settings, start: datetime, end: datetime, generator: np.random.Generator
) -> list[tuple[str, str]]:
    """Question and whole answer of what was asked with the safety layers on; a random part of too many."""
    log = lake.dataset(settings, params.predictions)
    columns = ["prediction_id", "sequence", "question", "answer", "safety"]
    rows = log.to_table(columns=columns, filter=_in_window(start, end)).sort_by("sequence").to_pylist()
    questions = {row["prediction_id"]: row["question"] for row in rows if row["question"]}
    answers: dict[str, str] = {}
    for row in rows:
        if row["safety"] != "off":
            answers[row["prediction_id"]] = answers.get(row["prediction_id"], "") + (row["answer"] or "")
    named = sorted(questions.keys() & answers.keys())
    chosen = generator.permutation(len(named))[: params.max_questions]
    return [(questions[named[i]], answers[named[i]]) for i in chosen]


def _in_window(start: datetime, end: datetime) -> "pc.Expression":
    import pyarrow.compute as pc

    answered = pc.field("predicted_at")
    return (pc.field("task") == LANGUAGE) & (answered >= start) & (answered < end)


def _embed(settings: Settings, answers: Sequence[tuple[str, str]]) -> Side:
    """Embeds the questions and reads them by the safety layers."""
    from data_pipeline.retrieval import embedders
    from data_pipeline.retrieval.grounded_answer import ABSTAINS
    from data_pipeline.safety import check_request

    embedder = embedders.load(settings)
    vectors, counts = [], Counter[str]()
    for question, answer in answers:
        vectors.append(embedder.question(question))
        report = check_request(question, embedding=vectors[-1])
        counts.update(layer.layer for layer in report.layers)
        counts[REFUSED] += report.blocks
        counts[ABSTAINED] += ABSTAINS in answer
    return Side(np.stack(vectors), counts)


def _judged(params: Params, window: Side, reference: Side, generator: np.random.Generator) -> Result:
    shares = [_share(name, window, reference) for name in sorted({*window.counts, *reference.counts})]
    auroc, apart = classifier_two_sample_test(reference.vectors, window.vectors, generator)
    significant = holm([each.p_value for each in shares] + [apart], params.family_wise_error_rate)
    shares = [
        each.model_copy(
            update={"drifted": bool(passes) and abs(each.share - each.reference_share) >= RELEVANT_SHARE}
        )
        for each, passes in zip(shares, significant[:-1], strict=True)
    ]
    embeddings = EmbeddingDrift(
        auroc=auroc, p_value=apart, drifted=bool(significant[-1]) and auroc >= RELEVANT_AUC
    )
    moved = [each.name for each in shares if each.drifted] + [QUESTIONS] * embeddings.drifted
    among = (
        f"of {len(shares) + 1} watched figures, on {len(window)} questions and {len(reference)} before them"
    )
    summary = f"drifted: {len(moved)} {among} ({', '.join(moved)})" if moved else f"quiet: none {among}"
    return _result(params, len(window), len(reference), summary).model_copy(
        update={"drifted": bool(moved), "shares": tuple(shares), "embeddings": embeddings}
    )


def _share(name: str, window: Side, reference: Side) -> ShareDrift:
    from scipy.stats import fisher_exact

    now, usual = window.counts[name], reference.counts[name]
    table = [[now, len(window) - now], [usual, len(reference) - usual]]
    return ShareDrift(
        name=name,
        share=now / len(window),
        reference_share=usual / len(reference),
        p_value=float(fisher_exact(table).pvalue),
        drifted=False,
    )


def classifier_two_sample_test(
    reference: "Vectors", window: "Vectors", generator: np.random.Generator
) -> tuple[float, float]:
    """AUROC of a classifier of the two on the half that it was not trained on, and the probability of one as large
    where both are drawn alike.

    Equal questions, which are equal vectors, stand in one half: a classifier that knows them by heart tells nothing.
    """
    from scipy.stats import mannwhitneyu
    from sklearn.linear_model import LogisticRegression

    vectors = np.concatenate([reference, window])
    is_window = np.repeat([False, True], [len(reference), len(window)])
    _, question = np.unique(vectors, axis=0, return_inverse=True)
    is_train = generator.permutation(question.max() + 1)[question.ravel()] % 2 == 0
    sides = [is_window[half].sum() for half in (is_train, ~is_train)]
    if min(*sides, *(half.sum() - n for half, n in zip((is_train, ~is_train), sides, strict=True))) < 2:
        return 0.5, 1.0
    model = LogisticRegression(class_weight="balanced", max_iter=1000)
    model.fit(vectors[is_train], is_window[is_train])
    scores = model.decision_function(vectors[~is_train])
    of_window, of_reference = scores[is_window[~is_train]], scores[~is_window[~is_train]]
    tested = mannwhitneyu(of_window, of_reference, alternative="greater")
    return float(tested.statistic / (len(of_window) * len(of_reference))), float(tested.pvalue)


def holm(p_values: Sequence[float], level: float) -> NDArray[np.bool_]:
    """Which hypotheses Holm's step-down procedure (1979) rejects at a family-wise error rate.

    >>> holm([0.01, 0.04, 0.03], 0.05).tolist()
    [True, False, False]
    """
    order = np.argsort(p_values)
    limits = level / (len(order) - np.arange(len(order)))
    passes = np.logical_and.accumulate(np.asarray(p_values)[order] <= limits)
    rejected: NDArray[np.bool_] = np.empty(len(order), bool)
    rejected[order] = passes
    return rejected


def _result(params: Params, n: int, n_reference: int, summary: str) -> Result:
    return Result(
        dataset=params.dataset,
        start=params.start,
        end=params.end,
        n=n,
        n_reference=n_reference,
        drifted=False,
        summary=summary,
    )


def runtime_inputs(params: Mapping[str, Any], settings: Settings) -> Iterator[Context]:
    """The prediction log as it is, where none is named."""
    if "dataset" in params and "predictions" not in params:
        yield Context({"predictions": lake.latest(settings, params["dataset"], PREDICTIONS.name)})


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="look for drift in questions",
    summary=lambda r: str(r.summary),
    runtime_inputs=runtime_inputs,
)
