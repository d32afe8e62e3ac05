"""Charlson and Elixhauser groups against codes whose group the paper states."""

import numpy as np
import pytest

from data_pipeline.features import comorbidity


def groups(*codes: str) -> set[str]:
    bits = 0
    for code in codes:
        bits |= comorbidity.group_bits(code)
    return {group.name for i, group in enumerate(comorbidity.GROUPS) if bits >> i & 1}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("ICD9CM//41071", {"charlson_myocardial_infarction"}),
        ("ICD10CM//I252", {"charlson_myocardial_infarction"}),
        ("ICD10CM//I25", set()),
        ("ICD9CM//4280", {"charlson_heart_failure", "elixhauser_heart_failure"}),
        ("ICD9CM//42731", {"elixhauser_arrhythmia"}),
        ("ICD10CM//E1122", {"charlson_diabetes_complicated", "elixhauser_diabetes_complicated"}),
        ("ICD9CM//25000", {"charlson_diabetes", "elixhauser_diabetes"}),
        ("ICD10CM//E116", {"charlson_diabetes", "elixhauser_diabetes_complicated"}),
        ("ICD10CM//I426", {"charlson_heart_failure", "elixhauser_heart_failure", "elixhauser_alcohol"}),
        ("ICD9CM//V434", {"charlson_peripheral_vascular", "elixhauser_peripheral_vascular"}),
        ("ICD9CM//0930", {"charlson_peripheral_vascular", "elixhauser_peripheral_vascular"}),
        ("ICD9CM//1733", set()),  # skin cancer other than melanoma is none
        ("ICD10CM//C50911", {"charlson_cancer", "elixhauser_solid_tumor"}),
        ("ICD10CM//C9000", {"charlson_cancer", "elixhauser_lymphoma"}),
        ("ICD9CM//042", {"charlson_hiv", "elixhauser_hiv"}),
        ("ICD10CM//F315", {"elixhauser_psychosis", "elixhauser_depression"}),
        ("ICD9PCS//4280", set()),
        ("LOINC//8867-4", set()),
    ],
)
def test_group_of_a_code(code: str, expected: set[str]) -> None:
    assert groups(code) == expected


def test_icd_versions_are_told_apart() -> None:
    """The same characters are another diagnosis in the other version: E10 was a train accident in ICD-9's E codes."""
    assert groups("ICD10CM//E109") != groups("ICD9CM//E109")


def test_lost_leading_zero_is_another_code() -> None:
    """MIMIC-III loses 71 leading zeros when codes are read as numbers."""
    assert groups("ICD9CM//07054") == {"charlson_mild_liver", "elixhauser_liver"}
    assert groups("ICD9CM//7054") == set()


def test_there_are_17_and_31_groups_that_fit_a_bit_set() -> None:
    assert (len(comorbidity.CHARLSON), len(comorbidity.ELIXHAUSER)) == (17, 31)
    assert len({group.name for group in comorbidity.GROUPS}) == 48


def score(*codes: str) -> float:
    bits = np.array([sum({1 << i for c in codes for i in range(48) if comorbidity.group_bits(c) >> i & 1})])
    return float(comorbidity.charlson_score(bits)[0])


def test_charlson_score_counts_the_severer_form_only() -> None:
    assert score() == 0
    assert score("ICD9CM//4280", "ICD9CM//496") == 2
    assert score("ICD9CM//25000") == 1
    assert score("ICD9CM//25000", "ICD9CM//25040") == 2
    assert score("ICD10CM//C50911", "ICD10CM//C787") == 6
    assert score("ICD10CM//K703", "ICD10CM//I850") == 3
