"""Freezing: what is joined, which groups evidence is split by, and when training is refused."""

import datetime as dt
from collections.abc import Callable

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from data_pipeline.features import kernel, training_set
from mediscale.core import tables
from mediscale.core.errors import QualityError, StorageError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.storage import lake

Draw = Callable[..., pa.Table]
Land = Callable[..., TableRef]
T = dt.datetime(2150, 1, 2)

RACES = {
    1: "WHITE - BRAZILIAN",
    2: "BLACK/AFRICAN AMERICAN",
    3: "ASIAN - CHINESE",
    4: "HISPANIC/LATINO - PUERTO RICAN",
    5: "PATIENT DECLINED TO ANSWER",
    6: "AMERICAN INDIAN/ALASKA NATIVE",
    7: "nonhispanic",
    8: "Caucasian",
    9: "NOT HISPANIC OR LATINO",
    10: "WHITE NON HISPANIC",
    11: "BLACK, NON-HISPANIC/LATINO",
    12: "NOT OF HISPANIC ORIGIN",
}
AGES = [18, 44.9, 45, 65, 80, 90, None, 30, 30, 30, 30, 30, 30]


def put(settings: Settings, name: str, rows: pa.Table) -> TableRef:
    write_deltalake(settings.table_uri("test", name), rows)
    return lake.latest(settings, "test", name)


def label_rows(outcomes: list[bool], split: str = "train") -> pa.Table:
    n = len(outcomes)
    values = {
        "subject_id": range(1, n + 1),
        "stay_id": range(101, 101 + n),
        "admission_time": [T - dt.timedelta(hours=24)] * n,
        "prediction_time": [T] * n,
        "boolean_value": outcomes,
        "known_time": [T + dt.timedelta(days=9)] * n,
        "split": [split] * n,
        "shard": [0] * n,
    }
    schema = tables.LABELS.arrow_schema()
    return pa.table({f.name: pa.array(list(values.get(f.name, [None] * n)), f.type) for f in schema})


def feature_rows(labels: pa.Table) -> pa.Table:
    n = labels.num_rows
    columns: dict[str, list[float | None]] = {name: [None] * n for name in kernel.names("mortality")}
    columns["age_years"] = AGES[:n]
    columns["sex_female"] = [1.0, 0.0, *[None] * n][:n]
    keys = labels.select(["subject_id", "stay_id", "admission_time", "prediction_time"])
    return pa.table(
        [*keys.columns, *(pa.array(v, pa.float64()) for v in columns.values())],
        names=[*keys.column_names, *columns],
    )


def params(settings: Settings, events: TableRef, labels: pa.Table, rows: pa.Table) -> training_set.Params:
    return training_set.Params(
        dataset="test",
        events=events,
        labels=put(settings, "labels_mortality", labels),
        features=put(settings, "features_mortality", rows),
        task="mortality",
    )


def test_join_freezes_features_with_groups(settings: Settings, events: Draw, land_events: Land) -> None:
    told = "".join(f"{s} | 2150-01-01 00:00 | RACE//{race} | \n" for s, race in RACES.items())
    corrected = "1 | 2150-01-01 00:00 | RACE//UNKNOWN | 77\n"
    drawn = events("subject_id | time | code | event_id\n" + corrected + told)
    labels = label_rows([True, False] * 6 + [True])
    result = training_set.run(
        params(settings, land_events(drawn, 2), labels, feature_rows(labels)), settings, "key"
    )
    assert result.counts["train"] == {"n": 13, "events": 7, "subjects": 13}
    assert result.counts["held_out"] == {"n": 0, "events": 0, "subjects": 0}
    rows = lake.read(settings, result.training_set).sort_by("subject_id").to_pydict()
    assert rows["ethnicity"] == [
        "white", "black", "asian", "hispanic", "unknown", "other", "unknown", "white",
        "unknown", "white", "black", "unknown", "unknown",
    ]  # fmt: skip
    assert rows["sex"][:3] == ["female", "male", "unknown"]
    assert rows["age_band"][:7] == ["18-44", "18-44", "45-64", "65-79", "80+", "80+", "unknown"]
    assert rows["boolean_value"] == [True, False] * 6 + [True]
    assert list(rows) == [*tables.TRAINING_SET.column_names, *kernel.names("mortality")]


@pytest.mark.parametrize(
    ("outcomes", "sentence"),
    [
        ([False] * 12, "0 training stays with the outcome and 12 without"),
        ([True] * 4 + [False] * 8, "fewer than 10 training stays with the outcome and fewer than 10 without"),
        ([True] * 12, "12 training stays with the outcome and 0 without"),
    ],
)
def test_too_few_of_a_class_to_train_is_refused_without_a_small_count(
    settings: Settings, events: Draw, land_events: Land, outcomes: list[bool], sentence: str
) -> None:
    labels = label_rows(outcomes)
    frozen = params(
        settings, land_events(events("subject_id | time | code\n"), 2), labels, feature_rows(labels)
    )
    with pytest.raises(QualityError, match=sentence):
        training_set.run(frozen, settings, "key")


def test_held_out_of_one_class_is_no_reason_to_stop(
    settings: Settings, events: Draw, land_events: Land
) -> None:
    """Its metrics will be "not estimable", with n: not a crash here."""
    labels = pa.concat_tables([label_rows([True, False] * 5), label_rows([False] * 12, "held_out").slice(10)])
    frozen = params(
        settings, land_events(events("subject_id | time | code\n"), 2), labels, feature_rows(labels)
    )
    result = training_set.run(frozen, settings, "key")
    assert result.counts["held_out"] == {"n": 2, "events": 0, "subjects": 2}


def test_too_few_held_out_to_promote_is_said_before_training_without_a_small_count() -> None:
    labels = label_rows([True] * 29 + [False] * 171, split="held_out")
    assert training_set.too_few_to_promote("mortality", labels) == "30 held-out stays with the outcome"
    more = label_rows([True] * 30 + [False] * 170, split="held_out")
    assert training_set.too_few_to_promote("mortality", more) == ""
    other_splits = label_rows([True] * 100 + [False] * 200)
    assert training_set.too_few_to_promote("mortality", other_splits) == (
        "200 held-out patients and 30 held-out stays with the outcome"
    )


def test_features_of_other_labels_are_refused(settings: Settings, events: Draw, land_events: Land) -> None:
    labels = label_rows([True, False] * 6)
    frozen = params(
        settings, land_events(events("subject_id | time | code\n"), 2), labels, feature_rows(labels.slice(1))
    )
    with pytest.raises(StorageError, match=r"11 rows\) was not computed for .* \(12 rows\)"):
        training_set.run(frozen, settings, "key")
