"""Invariants of the curated tables, and what is said of a file that does not fit."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from data_pipeline.drugs import tables
from mediscale.core.errors import InputError


def test_the_tables_are_large_enough_and_no_row_stands_twice() -> None:
    rows = tables.interactions()
    assert len(rows) >= 150
    assert len({frozenset((row.drug_a, row.drug_b)) for row in rows}) == len(rows)
    for name, least in (("brand_names.csv", 250), ("dose_ranges.csv", 100), ("drug_classes.csv", 100)):
        lines = (Path(tables.__file__).parent / name).read_text().casefold().splitlines()[1:]
        assert len(set(lines)) == len(lines) >= least
    names = (Path(tables.__file__).parent / "brand_names.csv").read_text().splitlines()[1:]
    assert len(tables.drug_names()) == len(names)
    doses = (Path(tables.__file__).parent / "dose_ranges.csv").read_text().splitlines()[1:]
    assert len(tables.dose_ranges()) == len(doses)


def test_names_lead_to_drugs_and_never_to_other_names() -> None:
    names = tables.drug_names()
    generics = {drug for drugs in names.values() for drug in drugs}
    assert all(drug == drug.casefold() for drug in generics)
    assert not generics & set(names)
    used = {drug for row in tables.interactions() for drug in (row.drug_a, row.drug_b)}
    used |= {drug for members in tables.drug_classes().values() for drug in members}
    used |= {drug for drug, _ in tables.dose_ranges()}
    assert not used & set(names), "the tables use nonproprietary names"


def test_classes_and_drugs_have_different_names() -> None:
    classes = tables.drug_classes()
    assert not set(classes) & {drug for members in classes.values() for drug in members}
    assert all(len(members) > 1 for members in classes.values())


def test_classes_are_spelled_out_and_the_most_severe_interaction_stays() -> None:
    pairs = tables.interactions_by_pair(tables.interactions(), tables.drug_classes())
    assert pairs[frozenset(("ibuprofen", "warfarin"))].severity == "major"
    assert pairs[frozenset(("sildenafil", "nitroglycerin"))].severity == "contraindicated"
    assert pairs[frozenset(("lisinopril", "spironolactone"))].effect == "hyperkalaemia"
    assert frozenset(("paracetamol", "amoxicillin")) not in pairs
    assert all(len(pair) == 2 for pair in pairs)
    by_class = tables.Interaction(drug_a="c", drug_b="x", severity="moderate", effect="e", source="s")
    by_drug = tables.Interaction(drug_a="x", drug_b="a", severity="major", effect="e", source="s")
    classes = {"c": frozenset("ab")}
    for rows in ([by_class, by_drug], [by_drug, by_class]):
        pairs = tables.interactions_by_pair(rows, classes)
        assert pairs == {frozenset("ax"): by_drug, frozenset("bx"): by_class}


def test_a_class_does_not_interact_with_itself_as_one_drug() -> None:
    row = tables.Interaction(drug_a="c", drug_b="c", severity="major", effect="e", source="s")
    assert set(tables.interactions_by_pair([row], {"c": frozenset("ab")})) == {frozenset("ab")}


def test_a_minimum_is_not_above_its_maximum() -> None:
    row = tables.dose_ranges()["paracetamol", "oral"].model_dump()
    with pytest.raises(ValidationError, match="a minimum is above its maximum"):
        tables.DoseRange(**row | {"single_min": row["single_max"] + 1})


def test_an_own_file_is_read_or_refused_in_one_sentence(tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text("name,kind,drugs\nOurol,brand,ourin+ourase\n")
    assert tables.drug_names(own) == {"ourol": ("ourin", "ourase")}
    own.write_text(own.read_text() + "Dol,nickname,dolin\nMol,brand,molin,too,many\n")
    with pytest.raises(
        InputError, match=r"own.csv has 1 usable rows and 2 that do not fit, the first on line 3"
    ):
        tables.drug_names(own)
    with pytest.raises(InputError, match="There is no file"):
        tables.drug_names(tmp_path / "none.csv")
