"""Drugs that an answer names as alternatives raise no warning of their combination; all else keeps it."""

from itertools import product

import pytest

from data_pipeline.safety import PatientContext, check_answer, check_request

PAIRS = (("apixaban", "warfarin"), ("clarithromycin", "simvastatin"), ("sildenafil", "nitroglycerin"))
APART = (
    "{a} is preferred to {b}.",
    "{a} 5 mg twice daily is preferred over dose-adjusted {b} in patients with atrial fibrillation.",
    "Give {a} rather than {b}.",
    "{a} is used instead of {b}.",
    "{a} may be given in place of {b} or aspirin.",
    "Either {a} or {b} is given.",
    "{a} was compared with {b} in 18,201 patients.",
    "{a} is an alternative to {b}.",
    "The trial of {a} versus {b} ended early.",
    "Patients were switched from {a} to {b}.",
    "{a} was replaced by {b}.",
    "Replace {a} with {b}.",
    "Instead of {a}, {b} is recommended.",
)
TOGETHER = (
    "{a} and {b} are preferred to placebo.",
    "{a} is given with {b}.",
    "{a} plus {b} is preferred to placebo.",
    "{a} was added to {b}.",
    "Take {a} together with {b}.",
    "{a} or {b} must not be taken together.",
    "{a} and/or {b} is given.",
    "The patient takes {a}, or {b} as needed.",
    "Add {a} rather than paracetamol to {b}.",
    "{a} is preferred to paracetamol in a patient on {b}.",
    "{a} rather than paracetamol and {b}.",
    "In patients on {a}, paracetamol rather than {b} is given.",
    "Instead of paracetamol, {a} and {b} are given.",
    "In a patient on {a}, paracetamol or {b} is given.",
    "Paracetamol with {a} or {b}, then {b} and {a}.",
    "{a} with {b} rather than {a} alone.",
    "{a} is preferred to placebo in patients who take {b}.",
    "{a} is given. {b} is given.",
    "{a} is preferred to {b}. Continue {b} and add {a}.",
    "{a} is preferred to {b}. Give it with {b} for five days.",
    "{a} is preferred to {b}, and both are given at first.",
    "{a} is preferred to {b}. The INR is measured. Both are given at first.",
)


@pytest.mark.parametrize(("phrase", "pair"), product(APART, [*PAIRS, *(pair[::-1] for pair in PAIRS)]))
def test_alternatives_of_an_answer_warn_of_no_combination(phrase: str, pair: tuple[str, str]) -> None:
    text = phrase.format(a=pair[0], b=pair[1])
    assert not _warned(text, pair)
    assert any(pair[1].lower() in each for each in check_request(text).warnings)


@pytest.mark.parametrize(("phrase", "pair"), product(TOGETHER, [*PAIRS, *(pair[::-1] for pair in PAIRS)]))
def test_what_an_answer_says_together_keeps_its_warning(phrase: str, pair: tuple[str, str]) -> None:
    assert _warned(phrase.format(a=pair[0], b=pair[1]), pair)


@pytest.mark.parametrize(
    ("apart", "together"), product(APART, [each for each in TOGETHER if "is given. " not in each])
)
def test_a_sentence_on_alternatives_takes_no_warning_from_another_one(apart: str, together: str) -> None:
    assert _warned(f"{apart} {together}".format(a="apixaban", b="warfarin"), PAIRS[0])


def test_a_list_is_an_alternative_to_each_drug_of_another_one() -> None:
    lists = "Apixaban, dabigatran and rivaroxaban are preferred to vitamin K antagonists such as warfarin."
    assert not any("warfarin" in each for each in check_answer("", lists).warnings)
    assert _warned("Apixaban rather than clopidogrel and warfarin.", ("apixaban", "warfarin"))


def test_what_the_patient_takes_keeps_its_warning() -> None:
    takes = PatientContext(medications=("warfarin",))
    assert check_answer("", "Apixaban is preferred to warfarin.", patient=takes).warnings
    assert check_request("I take warfarin, can I take apixaban instead of warfarin?").warnings


def _warned(answer: str, pair: tuple[str, str]) -> bool:
    names = [name.lower() for name in pair]
    return any(all(name in each for name in names) for each in check_answer("", answer).warnings)
