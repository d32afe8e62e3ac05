"""Continued training: which stays a version is grown on with, which version that is, and what is refused."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from mediscale.core.errors import NotFoundError, QualityError
from mediscale.core.refs import ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.splits import Split
from mediscale.storage import calls, lake
from mediscale.storage.calls import Call
from training import training_examples
from training.tabular import continuation
from training.tabular.continuation import Parent
from training.training_examples import Examples

FIRST = ModelRef(name="a-mortality", version=1, uri="one", digest="1")
FUSED = ModelRef(name="a-mortality", version=2, uri="two", digest="2")


def frozen(settings: Settings, splits: dict[int, Split]) -> TableRef:
    """A training set with one stay of each patient; every other one has the outcome."""
    n = len(splits)
    at = np.datetime64("2150-01-01", "us") + np.arange(n) * np.timedelta64(1, "h")
    rows = pa.table({
        "subject_id": list(splits), "stay_id": list(splits), "prediction_time": at, "admission_time": at,
        "boolean_value": [i % 2 == 0 for i in range(n)], "split": list(splits.values()),
        "sex": ["female"] * n, "age_band": ["80+"] * n, "ethnicity": ["unknown"] * n,
    })  # fmt: skip
    write_deltalake(settings.table_uri("a", "training_set_mortality"), rows, mode="overwrite")
    return lake.latest(settings, "a", "training_set_mortality")


def examples(settings: Settings, ref: TableRef, split: Split) -> Examples:
    return training_examples.load(settings, ref, split, ())


BEFORE: dict[int, Split] = {1: "train", 2: "train", 3: "tuning", 4: "held_out"}


def test_a_version_is_grown_on_with_what_was_labelled_since_and_never_with_held_out_patients(
    settings: Settings,
) -> None:
    parent = Parent(model=FIRST, training_set=frozen(settings, BEFORE))
    later = frozen(settings, BEFORE | {5: "train", 6: "train", 7: "tuning", 8: "held_out"})
    new = continuation.new_training_rows(settings, parent, examples(settings, later, "train"))
    assert new.subjects.tolist() == [5, 6]
    held_out = examples(settings, later, "held_out")
    assert not set(held_out.subjects) & set(new.subjects)
    continuation.check(settings, parent, new, held_out)


def test_where_nothing_was_labelled_since_there_is_nothing_to_learn(settings: Settings) -> None:
    ref = frozen(settings, BEFORE)
    parent = Parent(model=FIRST, training_set=ref)
    new = continuation.new_training_rows(settings, parent, examples(settings, ref, "train"))
    with pytest.raises(QualityError, match="both outcomes are needed"):
        continuation.check(settings, parent, new, examples(settings, ref, "held_out"))


@pytest.mark.parametrize("learnt", [1, 3])
def test_a_version_that_learnt_from_who_is_held_out_today_is_not_continued(
    settings: Settings, learnt: int
) -> None:
    parent = Parent(model=FIRST, training_set=frozen(settings, BEFORE))
    later = frozen(settings, BEFORE | {learnt: "held_out", 5: "train", 6: "train"})
    new = continuation.new_training_rows(settings, parent, examples(settings, later, "train"))
    with pytest.raises(QualityError, match="fewer than 10 patients who are held out today; train anew"):
        continuation.check(settings, parent, new, examples(settings, later, "held_out"))


def test_the_parent_of_a_version_that_reads_notes_is_the_table_model_in_it(settings: Settings) -> None:
    ref = TableRef(dataset="a", table="training_set_mortality", table_id="t", version=3)
    made = {
        "risk_model": ({"training_set": ref.model_dump()}, FIRST),
        "late_fusion": ({"training_set": ref.model_dump(), "model": FIRST.model_dump()}, FUSED),
    }
    for stage, (params, model) in made.items():
        record = Call(
            stage=stage, key=stage, run_id="run", params=params, code="", lock="",
            result={"model": model.model_dump()}, inputs=(), produced=(), outputs=(),
            started_at=datetime(2150, 1, 1, tzinfo=UTC), seconds=1.0,
        )  # fmt: skip
        calls.write(settings, record)
    for version in (1, 2):
        found = continuation.find(settings, "a", "mortality", version)
        assert found == Parent(model=FIRST, training_set=ref)
    with pytest.raises(NotFoundError, match="no record of the training of a-mortality v3"):
        continuation.find(settings, "a", "mortality", 3)
