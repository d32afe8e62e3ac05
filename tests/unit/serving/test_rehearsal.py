"""What held-out stays ask the server in a rehearsal."""

import json
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.features import kernel, plain_inputs
from mediscale.core.concepts import CONCEPTS, SCORE
from mediscale.core.errors import QualityError
from mediscale.core.refs import ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.simulation import held_out_replay
from mediscale.storage import commits, lake
from serving import schemas
from serving.requests import request

BORN, ADULT = datetime(2101, 3, 1), datetime(2119, 3, 1)


def held_out(settings: Settings) -> TableRef:
    """Two stays that end on the patients' eighteenth birthday."""
    row = plain_inputs.features(
        {"age": (ADULT + timedelta(hours=6) - BORN) / timedelta(days=365.2425)}, "readmission"
    )
    named = dict(zip(kernel.names("readmission"), row.astype(np.float64), strict=True))
    keys = {
        "subject_id": 1, "stay_id": 1, "prediction_time": ADULT, "boolean_value": False, "split": "held_out",
        "sex": "female", "age_band": "18-44", "ethnicity": "unknown",
    }  # fmt: skip
    rows = pa.Table.from_pylist([keys | named, keys | named | {"stay_id": 2}])
    commits.append(settings, "training_set_readmission", rows, "synthetic", "test", 1)
    return lake.latest(settings, "synthetic", "training_set_readmission")


def params(settings: Settings) -> held_out_replay.Params:
    return held_out_replay.Params(
        dataset="synthetic",
        task="readmission",
        training_set=held_out(settings),
        model=ModelRef(name="synthetic-readmission", version=1, uri="", digest=""),
        moved_at=datetime(2026, 1, 1),
    )


def test_who_is_18_by_the_calendar_is_asked_about_as_an_adult(settings: Settings) -> None:
    requests = held_out_replay.held_out_requests(settings, params(settings))
    assert [request["age"] for request in requests] == [18.0, 18.0]
    assert held_out_replay.as_planted(requests[0])["age"] > schemas.ADULT[0]


VALUES = {
    concept.name: st.floats(concept.low, concept.high) if concept.unit != SCORE else st.just(concept.high)
    for concept in CONCEPTS
}


@given(
    st.fixed_dictionaries(
        {"age": st.floats(17.9, 110)}, optional={**VALUES, "sex": st.sampled_from([0.0, 1.0])}
    )
)
def test_whatever_a_stay_s_newest_values_are_the_server_takes_them(values: dict[str, float]) -> None:
    """A systolic pressure below a diastolic one, of another moment, had ended the whole run."""
    asked = held_out_replay.plain_request(dict(values))
    for body in (asked, held_out_replay.as_planted(asked)):
        taken = request.parse(json.dumps(body).encode())
        assert isinstance(taken, request.Values)
        droppable = {"diastolic_blood_pressure", "mean_blood_pressure"}
        assert set(values) - droppable <= {*taken.given, *taken.out_of_range}


def test_too_few_stays_are_refused_without_their_number(settings: Settings) -> None:
    with pytest.raises(QualityError, match=r"^fewer than 10 held-out stays are too few"):
        held_out_replay.run(params(settings), settings, "key-of-a-run")
