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
ACCURACY = "multiple_choice_accuracy"

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
    tuned, general_tuned = scores(model, questions, effort), likelihood_scores(model, general())
    with model.base():
        log.info("the same questions go to the un-tuned base")
        base, general_base = scores(model, questions, effort), likelihood_scores(model, general())
    specialties = sorted({question.specialty for question in questions if question.specialty})
    return LanguageMeasures(
        figures=compare(questions, tuned, base, effort),
        by_specialty={
            specialty: _of_specialty(specialty, questions, tuned, base, effort) for specialty in specialties
        },
        general=compare(general(), general_tuned, general_base, effort)[ACCURACY],
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
    chosen = _to_write(questions, effort.max_generated)
    asked = [questions[i] for i in chosen]
    answers = model.answers([(q.question, q.context) for q in asked], effort.max_tokens)
    scored = likelihood_scores(model, questions) | {
        name: np.full(len(questions), np.nan) for name in GENERATED
    }
    for i, question, answer in zip(chosen, asked, answers, strict=True):
        for name, metric in GENERATED.items():
            scored[name][i] = metric(answer, question.answer)
    return scored


def likelihood_scores(model: LanguageModel, questions: Sequence[Question]) -> Scores:
    """What needs no writing: how likely the reference answer is, and whether the likeliest option per token of all is
    the right one (NaN for a question without options)."""
    texts = [(i, text) for i, q in enumerate(questions) for text in q.options or (q.answer,)]
    triples = [(questions[i].question, questions[i].context, text) for i, text in texts]
    per_token: list[dict[str, float]] = [{} for _ in questions]
    for (i, text), likelihood in zip(texts, model.log_likelihoods(triples), strict=True):
        per_token[i][text] = likelihood.per_token
    right = [max(of, key=of.__getitem__) == q.answer for of, q in zip(per_token, questions, strict=True)]
    return {
        LIKELIHOOD: np.array([of[q.answer] for of, q in zip(per_token, questions, strict=True)]),
        ACCURACY: np.where([bool(q.options) for q in questions], np.array(right, dtype=float), np.nan),
    }


def _to_write(questions: Sequence[Question], most: int) -> list[int]:
    """Places of the short-answer questions that are answered in words: the same ones for every model."""
    short = [i for i, question in enumerate(questions) if question.kind == "short_answer"]
    return sorted(short, key=lambda i: hashlib.sha256(questions[i].id.encode()).digest())[:most]


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
