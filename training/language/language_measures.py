"""Measuring a language model on questions: by the code that serves, beside its un-tuned base on the same questions."""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np

from data_pipeline.documents import questions as question_files
from data_pipeline.documents.questions import Question
from mediscale.core.refs import Frozen
from mediscale.inference.language import LanguageModel
from training.evaluation.bootstrap import Resamples
from training.evaluation.evaluation_report import Estimate
from training.evaluation.metrics import Floats
from training.language import answer_metrics
from training.language.language_evidence import Compared, LanguageMeasures

log = logging.getLogger(__name__)

GENERAL = Path(__file__).with_name("general_questions.jsonl")
"""The regression set: what every base knows, and none of it medical."""

LIKELIHOOD = "answer_log_likelihood"
"""Of the reference answer, the natural logarithm per token."""

Scores = dict[str, Floats]
"""By metric, one value per question; NaN where it can't be measured on a question."""

GENERATED: Mapping[str, Callable[[str, str], float]] = {
    "exact_match": answer_metrics.exact_match,
    "token_f1": answer_metrics.token_f1,
    "bleu": answer_metrics.bleu,
}
"""Metrics of written answers."""


class Effort(Frozen):
    """How much is measured."""

    max_generated: int
    """Short-answer questions for which an answer is written out; writing is slow."""
    max_tokens: int
    """Of a written answer."""
    bootstrap: int
    seed: int


@cache
def general() -> tuple[Question, ...]:
    """The questions of the regression set."""
    return tuple(question_files.read(GENERAL))


def measure(model: LanguageModel, questions: Sequence[Question], effort: Effort) -> LanguageMeasures:
    """The model beside its base."""
    tuned, general_tuned = scores(model, questions, effort), accuracy(model, general())
    with model.base():
        log.info("the same questions go to the un-tuned base")
        base, general_base = scores(model, questions, effort), accuracy(model, general())
    specialties = sorted({question.specialty for question in questions if question.specialty})
    return LanguageMeasures(
        figures=compare(questions, tuned, base, effort),
        by_specialty={
            specialty: _of_specialty(specialty, questions, tuned, base, effort) for specialty in specialties
        },
        general=compare(general(), {"general": general_tuned}, {"general": general_base}, effort).get(
            "general"
        ),
    )


def _of_specialty(
    specialty: str, questions: Sequence[Question], tuned: Scores, base: Scores, effort: Effort
) -> dict[str, Compared]:
    which = np.array([question.specialty == specialty for question in questions])
    some = [question for question in questions if question.specialty == specialty]
    of = [{name: values[which] for name, values in each.items()} for each in (tuned, base)]
    return compare(some, of[0], of[1], effort)


def scores(model: LanguageModel, questions: Sequence[Question], effort: Effort) -> Scores:
    """Every metric of every question, by the model as it answers now."""
    likelihoods = model.log_likelihoods([(q.question, q.context, q.answer) for q in questions])
    written = set(_to_write(questions, effort.max_generated))
    scored = {name: np.full(len(questions), np.nan) for name in GENERATED}
    for i, question in enumerate(questions):
        if question.id in written:
            answer = model.generate(question.question, question.context, effort.max_tokens)
            for name, metric in GENERATED.items():
                scored[name][i] = metric(answer, question.answer)
    return {
        LIKELIHOOD: np.array([likelihood.per_token for likelihood in likelihoods]),
        "multiple_choice_accuracy": accuracy(model, questions),
        **scored,
    }


def accuracy(model: LanguageModel, questions: Sequence[Question]) -> Floats:
    """1 where the right option is the likeliest per token of all, 0 where it is not, NaN for a question without."""
    asked = [(i, option) for i, question in enumerate(questions) for option in question.options]
    triples = [(questions[i].question, questions[i].context, option) for i, option in asked]
    per_token = [likelihood.per_token for likelihood in model.log_likelihoods(triples)]
    best: dict[int, tuple[float, str]] = {}
    for (i, option), value in zip(asked, per_token, strict=True):
        best[i] = max(best.get(i, (-np.inf, "")), (value, option))
    right = [float(best[i][1] == q.answer) if q.options else np.nan for i, q in enumerate(questions)]
    return np.array(right)


def _to_write(questions: Sequence[Question], most: int) -> list[str]:
    """Ids of the short-answer questions that are answered in words: the same ones for every model."""
    ids = [question.id for question in questions if question.kind == "short_answer"]
    return sorted(ids, key=lambda each: hashlib.sha256(each.encode()).digest())[:most]


def compare(
    questions: Sequence[Question], tuned: Scores, base: Scores, effort: Effort
) -> dict[str, Compared]:
    """Both models' figures and the paired gain, with intervals from resampled families of questions."""
    families = np.unique([question.family for question in questions], return_inverse=True)[1].astype(np.int64)
    compared = {}
    for name in tuned:
        there = np.isfinite(tuned[name]) & np.isfinite(base[name])
        if not there.any():
            continue
        resamples = Resamples(families[there], effort.bootstrap, effort.seed)
        one, other = tuned[name][there], base[name][there]
        of = {"n": int(there.sum()), "families": len(np.unique(families[there]))}
        compared[name] = Compared(
            **of,
            tuned=_estimate(resamples, name, one),
            base=_estimate(resamples, name, other),
            gain=_gain(resamples, one - other, of["families"]),
        )
        if name == LIKELIHOOD:
            compared["perplexity"] = Compared(**of, **_perplexities(resamples, one, other))
    return compared


def _estimate(resamples: Resamples, name: str, values: Floats) -> Estimate:
    if name == LIKELIHOOD:
        return resamples.estimate(partial(_mean, values))
    return resamples.shares(values[:, None], np.ones((len(values), 1)))[0]


def _gain(resamples: Resamples, differences: Floats, families: int) -> Estimate:
    """Mean difference. Where no question differs, resamples have no interval; it is then what Clopper and Pearson's
    (1934) leaves possible for the share of families that would: with 50 families 0 may be a loss of 7 %."""
    if differences.any():
        return resamples.estimate(partial(_mean, differences))
    from scipy.stats import binomtest

    possible = float(binomtest(0, families).proportion_ci(method="exact").high)
    return Estimate(value=0.0, low=-possible, high=possible)


def _perplexities(resamples: Resamples, tuned: Floats, base: Floats) -> dict[str, Estimate]:
    """Of the reference answers, the geometric mean over questions; its gain is how much lower it is."""

    def perplexity(values: Floats, weights: Floats) -> Floats:
        return np.asarray(np.exp(-_mean(values, weights)))

    return {
        "tuned": resamples.estimate(partial(perplexity, tuned)),
        "base": resamples.estimate(partial(perplexity, base)),
        "gain": resamples.estimate(lambda weights: perplexity(base, weights) - perplexity(tuned, weights)),
    }


def _mean(values: Floats, weights: Floats) -> Floats:
    means: Floats = weights @ values / weights.sum(axis=1)
    return means


def gains(
    questions: Sequence[Question], tuned: Scores, incumbent: Scores, effort: Effort
) -> dict[str, Estimate]:
    """How much better a model is than another one on the same questions, by metric."""
    return {name: figure.gain for name, figure in compare(questions, tuned, incumbent, effort).items()}
