"""Language challengers: a version that answers beside the one in production, compared with it on the same questions.

Production's answer is written first, so that it is there when the challenger's fails, says nothing or does not come in
time. Nobody knows which of two sentences is right: what is compared is whether the answer may leave at all, and how
likely each version finds its own words.
"""

import math
import threading
import time
from dataclasses import replace

from serving.language import language_answer
from serving.language.language_answer import GrowingAnswer, Question
from serving.language.languages import ServedLanguage
from serving.traffic.canary_analysis import CanaryAnalysis, Comparison, cause
from serving.traffic.splits import Split

SHIFT_PERPLEXITY = math.log(4)
"""An answer whose perplexity differs by more than this factor from that of production's is another kind of answer."""


class LanguageChallengers(CanaryAnalysis[ServedLanguage]):
    """Language models that answer beside the one in production."""

    failed = "failed, were no text or did not come in time"
    shifted = (
        "were withheld where production's was not or the other way round, or had a perplexity more than 4 times above "
        "or below that of production's"
    )

    def answer(
        self, split: Split[ServedLanguage], question: Question, before: GrowingAnswer
    ) -> GrowingAnswer | None:
        """The challenger's answer to a question that the version in production has answered; None where it is none.

        It blocks; what a challenger raises is counted and never raised here.
        """
        theirs, stopped = GrowingAnswer(), threading.Event()
        limit = self.limit(before.seconds)
        sampling = replace(question.sampling, deadline=time.monotonic() + limit)
        asked = replace(question, version=split.version, sampling=sampling)

        def write() -> GrowingAnswer:
            for _ in language_answer.write(asked, theirs):
                if stopped.is_set():
                    break
            return theirs

        (future,) = self.start([write])
        after, failure = None, "no words, or numbers that are none"
        try:
            after = future.result(limit).value
        except Exception as error:
            failure = cause(error, limit)
            stopped.set()
        if after is not None and not _is_answer(after, before):
            after = None
        self.observe(split, _comparison(question, before, after, failure))
        return after


def _is_answer(after: GrowingAnswer, before: GrowingAnswer) -> bool:
    """Whether it has words where production's has some, from a model that computes numbers."""
    log_probabilities = (token.log_probability for token in after.tokens)
    return bool(after.text.strip() or not before.text.strip()) and all(
        value is None or math.isfinite(value) for value in log_probabilities
    )


def _comparison(
    question: Question, before: GrowingAnswer, after: GrowingAnswer | None, failure: str
) -> Comparison:
    incumbent, seconds = question.version.model.version, _seconds_per_token(before)
    if after is None:
        return Comparison(incumbent, (seconds, math.inf), failure)
    shifted = before.is_withheld != after.is_withheld
    if before.log_probability is not None and after.log_probability is not None:
        shifted |= abs(after.log_probability - before.log_probability) > SHIFT_PERPLEXITY
    return Comparison(incumbent, (seconds, _seconds_per_token(after)), shifted=shifted)


def _seconds_per_token(written: GrowingAnswer) -> float:
    return written.seconds / max(1, len(written.tokens))
