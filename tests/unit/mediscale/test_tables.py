"""Declarations: names, schemas and rules that everything else derives from."""

import pytest

from mediscale.core.concepts import CONCEPTS, by_name
from mediscale.core.tables import TABLES, declaration_of


def test_a_tasks_table_has_its_base_declaration() -> None:
    assert declaration_of("training_set_readmission") is TABLES["training_set"]
    with pytest.raises(KeyError, match="not declared"):
        declaration_of("rows")


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_keys_and_partitions_are_columns(table: object) -> None:
    names = set(table.column_names)  # type: ignore[attr-defined]
    assert set(table.key) | set(table.partition_by) <= names  # type: ignore[attr-defined]
    assert all(column.description for column in table.columns)  # type: ignore[attr-defined]


def test_a_required_column_is_a_rule() -> None:
    assert [rule.name for rule in TABLES["quarantine"].all_rules] == [
        "source_present",
        "file_present",
        "line_present",
        "reason_present",
    ]


def test_no_two_concepts_share_a_name_or_code() -> None:
    assert len({concept.code for concept in CONCEPTS}) == len(CONCEPTS)
    assert len(by_name()) == sum(1 + len(concept.aliases) for concept in CONCEPTS)
    assert by_name()["blood_pressure"].name == "systolic_blood_pressure"
