"""Batches of a token budget, and the figures that are drawn from paired answers."""

import numpy as np
import pytest

from data_pipeline.documents.questions import Question
from training.language import language_measures
from training.language.language_measures import Effort
from training.language.language_training import TokenBudgetBatches

LENGTHS = np.random.default_rng(0).integers(10, 120, 200).tolist()
EFFORT = Effort(max_generated=0, max_tokens=1, bootstrap=200, seed=0)


def test_batches_hold_every_question_once_within_the_budget_in_another_order_each_epoch() -> None:
    batches = TokenBudgetBatches(LENGTHS, 512, 0, 1)
    first = list(batches)
    assert sorted(i for batch in first for i in batch) == list(range(200))
    assert max(len(batch) * max(LENGTHS[i] for i in batch) for batch in first) <= 512
    assert batches.padded < 1.1 * sum(LENGTHS)
    batches.set_epoch(1)
    second = list(batches)
    assert second != first
    assert sorted(map(sorted, second)) == sorted(map(sorted, first))
    batches.set_epoch(0)
    assert list(batches) == first, "a fit that goes on would read other questions"


def test_all_workers_get_as_many_batches() -> None:
    batches = TokenBudgetBatches(LENGTHS, 512, 0, 4)
    assert len(list(batches)) == len(batches)
    assert len(batches) % 4 == 0


def asked(n: int) -> list[Question]:
    return [
        Question(id=f"{i}", family=f"{i // 2}", kind="short_answer", question="?", answer="!")
        for i in range(n)
    ]


def test_a_gain_is_paired_and_drawn_by_family() -> None:
    base = np.random.default_rng(1).normal(size=80)
    compared = language_measures.compare(asked(80), {"token_f1": base + 0.1}, {"token_f1": base}, EFFORT)
    figure = compared["token_f1"]
    assert (figure.n, figure.families) == (80, 40)
    assert figure.gain.value == pytest.approx(0.1)
    assert figure.tuned.low is not None
    assert figure.tuned.low < figure.base.value, "the models' own intervals are wide"


def test_models_that_answer_alike_have_a_gain_of_0_with_what_so_few_families_leave_possible() -> None:
    right = np.ones(100)
    figure = language_measures.compare(asked(100), {"exact_match": right}, {"exact_match": right}, EFFORT)
    gain = figure["exact_match"].gain
    assert gain.value == 0
    assert gain.low == pytest.approx(0.025 ** (1 / 50) - 1)


def test_what_can_not_be_measured_on_a_question_is_left_out() -> None:
    some = np.where(np.arange(10) < 4, 1.0, np.nan)
    compared = language_measures.compare(asked(10), {"bleu": some, "token_f1": some * np.nan}, {
        "bleu": some - 1, "token_f1": some}, EFFORT)  # fmt: skip
    assert compared.keys() == {"bleu"}
    assert compared["bleu"].n == 4


def test_perplexity_falls_where_the_likelihood_rises() -> None:
    likelihood = np.random.default_rng(2).normal(-3, 1, 60)
    name = language_measures.LIKELIHOOD
    compared = language_measures.compare(asked(60), {name: likelihood + 0.5}, {name: likelihood}, EFFORT)
    assert compared["perplexity"].gain.value > 0
    assert compared["perplexity"].base.value == pytest.approx(np.exp(-likelihood.mean()))
