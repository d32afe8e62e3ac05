"""A sentence that a source says in other words is supported; with one fact changed it is not."""

import numpy as np
import pytest

from data_pipeline.clinical_text.sentences import sentences
from data_pipeline.documents import perturbations, support_fit
from data_pipeline.documents.perturbations import UNKNOWN
from data_pipeline.retrieval import support
from data_pipeline.retrieval.support import shipped

SOURCE = (
    "Intravenous alteplase is given within 4.5 hours of the onset of ischaemic stroke. The dose is 0.9 mg/kg, at "
    "most 90 mg. It is not given when the platelet count is below 100,000. Metoprolol lowers blood pressure within "
    "three days."
)


@pytest.mark.parametrize(
    "sentence",
    [
        "Intravenous alteplase is given within 4.5 hours of the onset of ischaemic stroke.",
        "Intravenous alteplase is administered within 4.5 hours of the onset of ischaemic stroke.",
        "The dose is 0.9 mg/kg.",
        "Metoprolol lowers blood pressure within 3 days.",
        "It is not given when the platelet count is lower than 100000.",
    ],
)
def test_the_same_in_other_words_is_supported(sentence: str) -> None:
    found = support(sentence, ["Kidneys filter blood.", SOURCE])
    assert found.supported
    assert found.source == 1
    assert (found.start, found.end) in sentences(SOURCE)


@pytest.mark.parametrize(
    "sentence",
    [
        "Intravenous alteplase is given within 6 hours of the onset of ischaemic stroke.",  # number
        "The dose is 0.9 g/kg, at most 90 mg.",  # unit
        "Metoprolol lowers blood pressure within three weeks.",  # unit of a number in words
        "It is given when the platelet count is below 100,000.",  # negation
        "It is not given when the platelet count is above 100,000.",  # direction
        "Bisoprolol lowers blood pressure within three days.",  # drug
        "Warfarin is a vitamin K antagonist.",  # of nothing there
        "Aspirin",  # a word that no source has
        "",
    ],
)
def test_a_changed_fact_is_not_supported(sentence: str) -> None:
    assert not support(sentence, [SOURCE]).supported


def test_nothing_supports_without_sources() -> None:
    assert support("Kidneys filter blood.", []) == support("Kidneys filter blood.", [""])


def test_splits_share_neither_passages_nor_the_words_of_paraphrases() -> None:
    parts = {split: support_fit.examples(split) for split in ("train", "tuning", "held_out")}
    sources = {split: {example.sources[1] for example in part} for split, part in parts.items()}
    assert not sources["train"] & sources["held_out"]
    assert not sources["tuning"] & sources["held_out"]
    kinds = {example.kind for example in parts["held_out"]}
    assert kinds == {"verbatim", "paraphrase", *perturbations.KINDS, UNKNOWN, support_fit.UNRELATED}
    for example in parts["held_out"]:
        assert (example.sentence in example.sources[1]) == (example.kind == "verbatim")


def test_the_shipped_checker_is_the_one_that_training_gives() -> None:
    """On a part of the examples, which takes a second; they decide nearly the same."""
    train, tuning = (
        [example for example in support_fit.examples(split) if example.kind != UNKNOWN][::3]
        for split in ("train", "tuning")
    )
    fitted = support_fit.fit(train, tuning)
    some = support_fit.examples("tuning")[::4]
    agree = [
        (support_fit.score(fitted, each) >= fitted.threshold)
        == (support_fit.score(shipped(), each) >= shipped().threshold)
        for each in some
    ]
    assert np.mean(agree) > 0.9
