"""Measuring a language model on questions: by the code that serves, beside its un-tuned base on the same questions."""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from data_pipeline.documents import questions as question_files
from data_pipeline.documents.questions import Question
from data_pipeline.safety import check_answer
from mediscale.core.refs import Frozen
from mediscale.inference.language import LanguageModel
from training.language import answer_metrics
from training.language.answer_errors import ErrorPattern, patterns
from training.language.confidence import Calibration, calibration, mean, of_options, of_text
from training.language.language_evidence import LanguageMeasures, PairedFigure
from training.language.statements import Sources, grounding
from training.statistics.bootstrap import Resamples
from training.statistics.estimate import Estimate
from training.statistics.metrics import Floats

log = logging.getLogger(__name__)

GENERAL = Path(__file__).with_name("general_questions.jsonl")
"""The regression set: what every base knows, and none of it medical."""

LIKELIHOOD = "answer_log_likelihood"
"""Of the reference answer, the natural logarithm per token."""
ACCURACY = "multiple_choice_accuracy"
SAFE = "safe_answers"
"""1 for a written answer that no layer of the safety checks blocks."""
_HALF = 0.5
"""Token F1 from which a written answer counts as right."""

Scores = dict[str, Floats]
"""By metric, one value per question; NaN where it can't be measured on a question."""

GENERATED: Mapping[str, Callable[[str, str], float]] = {
    "exact_match": answer_metrics.exact_match,
    "token_f1": answer_metrics.token_f1,
    "bleu": answer_metrics.bleu,
    "rouge_l": answer_metrics.rouge_l,
}
"""Metrics of written answers."""


class Effort(Frozen):
    """How much is measured."""

    max_generated: int
    """Questions for which an answer is written out; writing is slow."""
    max_tokens: int
    """Of a written answer."""
    bootstrap: int
    seed: int


@cache
def general() -> tuple[Question, ...]:
    """The questions of the regression set."""
    return tuple(question_files.read(GENERAL))


@dataclass(frozen=True)
class JudgedAnswers:
    """What a model made of some questions."""

    scores: Scores
    confidence: Floats
    """In the option that is likeliest, or in the written answer; NaN where there is neither."""
    answers: Mapping[int, str]
    """Written answers, by the question's place."""


def measure(
    model: LanguageModel,
    questions: Sequence[Question],
    effort: Effort,
    sources: Sources | None = None,
    regression: Sequence[Question] = (),
) -> LanguageMeasures:
    """The model beside its base, on a regression set too; with ``sources``, its statements with and without the
    passages that these find."""
    tuned, regression_tuned = (judge(model, asked, effort) for asked in (questions, regression))
    with model.base():
        log.info("the same questions go to the un-tuned base")
        base, regression_base = (scores(model, asked, effort) for asked in (questions, regression))
    specialties = sorted({question.specialty for question in questions if question.specialty})
    return LanguageMeasures(
        figures=compare(questions, tuned.scores, base, effort),
        by_specialty={
            specialty: _of_specialty(specialty, questions, tuned.scores, base, effort)
            for specialty in specialties
        },
        general=compare(regression, regression_tuned.scores, regression_base, effort).get(ACCURACY),
        errors=_errors(questions, tuned, effort),
        confidence=_calibrations(questions, tuned, effort),
        grounding=sources
        and grounding(
            model, questions, tuned.answers, sources, effort.max_tokens, effort.bootstrap, effort.seed
        ),
    )


def _errors(questions: Sequence[Question], judged: JudgedAnswers, effort: Effort) -> tuple[ErrorPattern, ...]:
    answered = [questions[i] for i in judged.answers]
    families = [question.family for question in answered]
    references = [question.answer for question in answered]
    return patterns(list(judged.answers.values()), references, families, effort.bootstrap, effort.seed)


def _calibrations(
    questions: Sequence[Question], judged: JudgedAnswers, effort: Effort
) -> dict[str, Calibration]:
    """Calibration of choices, and of written answers, which count as right where half of their words are."""
    right = {
        "multiple choice": judged.scores[ACCURACY],
        "written": np.where(
            np.isnan(judged.scores["token_f1"]) | np.isfinite(judged.scores[ACCURACY]),
            np.nan,
            (judged.scores["token_f1"] >= _HALF).astype(float),
        ),  # of a question with options the confidence is that of the choice
    }
    families = np.array([question.family for question in questions])
    return {
        kind: calibration(
            judged.confidence[there], values[there], list(families[there]), effort.bootstrap, effort.seed
        )
        for kind, values in right.items()
        if (there := np.isfinite(values) & np.isfinite(judged.confidence)).any()
    }


def _of_specialty(
    specialty: str, questions: Sequence[Question], tuned: Scores, base: Scores, effort: Effort
) -> dict[str, PairedFigure]:
    which = np.array([question.specialty == specialty for question in questions])
    some = [question for question in questions if question.specialty == specialty]
    of = [{name: values[which] for name, values in each.items()} for each in (tuned, base)]
    return compare(some, of[0], of[1], effort)


def scores(model: LanguageModel, questions: Sequence[Question], effort: Effort) -> Scores:
    """Every metric of every question, by the model as it answers now."""
    return judge(model, questions, effort).scores


def judge(model: LanguageModel, questions: Sequence[Question], effort: Effort) -> JudgedAnswers:
    """Every metric of every question, some written answers, and how sure the model was."""
    chosen = _to_write(questions, effort.max_generated)
    prompts = [(questions[i].question, questions[i].context) for i in chosen]
    answers = dict(zip(chosen, model.answers(prompts, effort.max_tokens), strict=True)) if chosen else {}
    written = {name: np.full(len(questions), np.nan) for name in (*GENERATED, SAFE)}
    for i, answer in answers.items():
        for name, metric in GENERATED.items():
            written[name][i] = metric(answer, questions[i].answer)
        written[SAFE][i] = float(not check_answer(questions[i].question, answer).blocks)
    likelihoods = _likelihoods(model, questions, answers)
    confidence = np.full(len(questions), np.nan)
    for i, question in enumerate(questions):
        if question.options:
            confidence[i] = of_options([likelihoods[i, option] for option in question.options])
        elif answers.get(i):
            confidence[i] = of_text(likelihoods[i, answers[i]])
    likeliest = [
        max(q.options, key=lambda option: likelihoods[i, option], default="") for i, q in enumerate(questions)
    ]
    right = [
        float(best == q.answer) if best else np.nan for best, q in zip(likeliest, questions, strict=True)
    ]
    return JudgedAnswers(
        scores={
            LIKELIHOOD: np.array([likelihoods[i, q.answer] for i, q in enumerate(questions)]),
            ACCURACY: np.array(right),
            **written,
        },
        confidence=confidence,
        answers=answers,
    )


def _likelihoods(
    model: LanguageModel, questions: Sequence[Question], answers: Mapping[int, str]
) -> dict[tuple[int, str], float]:
    """The likelihoods per token of each option or reference answer, and of each written answer."""
    texts = [(i, text) for i, q in enumerate(questions) for text in q.options or (q.answer,)]
    texts += [(i, text) for i, text in answers.items() if text]
    triples = [(questions[i].question, questions[i].context, text) for i, text in texts]
    return {
        place: likelihood.per_token
        for place, likelihood in zip(texts, model.log_likelihoods(triples), strict=True)
    }


def _to_write(questions: Sequence[Question], most: int) -> list[int]:
    """Places of the questions that are answered in words: the same ones for every model, and of as many families as
    there are. Where a set has no short answers, those with options are answered in words, too, for what a model writes
    has to be looked at."""
    short = [i for i, question in enumerate(questions) if question.kind == "short_answer"]
    drawn = sorted(
        short or range(len(questions)), key=lambda i: hashlib.sha256(questions[i].id.encode()).digest()
    )
    earlier: Counter[str] = Counter()
    rank = {}
    for i in drawn:
        rank[i] = earlier[questions[i].family]
        earlier[questions[i].family] += 1
    return sorted(drawn, key=rank.__getitem__)[:most]


def compare(
    questions: Sequence[Question], tuned: Scores, base: Scores, effort: Effort
) -> dict[str, PairedFigure]:
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
        compared[name] = PairedFigure(
            **of,
            tuned=_estimate(resamples, name, one),
            base=_estimate(resamples, name, other),
            gain=_gain(resamples, one - other, of["families"]),
        )
        if name == LIKELIHOOD:
            compared["perplexity"] = PairedFigure(**of, **_perplexities(resamples, one, other))
    return compared


def _estimate(resamples: Resamples, name: str, values: Floats) -> Estimate:
    if name == LIKELIHOOD:
        return resamples.estimate(partial(mean, values))
    return resamples.shares(values[:, None], np.ones((len(values), 1)))[0]


def _gain(resamples: Resamples, differences: Floats, families: int) -> Estimate:
    """Mean difference. Where no question differs, resamples have no interval; it is then what Clopper and Pearson's
    (1934) leaves possible for the share of families that would: with 50 families 0 may be a loss of 7 %."""
    if differences.any():
        return resamples.estimate(partial(mean, differences))
    from scipy.stats import binomtest

    possible = float(binomtest(0, families).proportion_ci(method="exact").high)
    return Estimate(value=0.0, low=-possible, high=possible)


def _perplexities(resamples: Resamples, tuned: Floats, base: Floats) -> dict[str, Estimate]:
    """Perplexity of the reference answers, the geometric mean over questions; the gain is what the fit takes off it."""

    def perplexity(values: Floats, weights: Floats) -> Floats:
        return np.asarray(np.exp(-mean(values, weights)))

    return {
        "tuned": resamples.estimate(partial(perplexity, tuned)),
        "base": resamples.estimate(partial(perplexity, base)),
        "gain": resamples.estimate(lambda weights: perplexity(base, weights) - perplexity(tuned, weights)),
    }


def gains(
    questions: Sequence[Question], tuned: Scores, incumbent: Scores, effort: Effort
) -> dict[str, Estimate]:
    """How much better a model is than another one on the same questions, by metric."""
    return {name: figure.gain for name, figure in compare(questions, tuned, incumbent, effort).items()}
