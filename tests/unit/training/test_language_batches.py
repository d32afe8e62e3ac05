"""Batches of a token budget, and the figures that are drawn from paired answers."""

from collections.abc import Sequence

import numpy as np
import pytest

from data_pipeline.documents.questions import Question
from mediscale.inference.language import Likelihood
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


class Echo:
    """A model that says the question back, and takes shorter options for likelier."""

    def answers(self, prompts: Sequence[tuple[str, str]], max_tokens: int) -> list[str]:
        return [question[: 5 * max_tokens] for question, _ in prompts]

    def log_likelihoods(self, triples: Sequence[tuple[str, str, str]]) -> list[Likelihood]:
        return [Likelihood(-float(len(answer)), 1) for _, _, answer in triples]


def test_what_a_model_writes_is_looked_at_in_a_set_of_choices_alone_too() -> None:
    choices = [
        Question(
            id=f"{i}", family=f"{i}", kind="multiple_choice", question="no", answer="no", options=("no", "maybe"),
            letter="A",
        )
        for i in range(4)
    ]  # fmt: skip
    effort = EFFORT.model_copy(update={"max_generated": 3})
    judged = language_measures.judge(Echo(), choices, effort)  # type: ignore[arg-type]
    assert len(judged.answers) == 3
    assert np.nansum(judged.scores["exact_match"]) == np.nansum(judged.scores["safe_answers"]) == 3
    mixed = [*choices, *asked(2)]
    assert language_measures.judge(Echo(), mixed, effort).answers.keys() == {4, 5}  # type: ignore[arg-type]
