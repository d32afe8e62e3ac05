"""Whose a row is where it names a key and no patient: what an erasure and an access by the patient go by."""

import pyarrow as pa
import pytest
from fixtures.wards import BEDS

from data_pipeline.ingest import source
from mediscale.core.settings import Settings
from mediscale.governance.patient import Holdings, Patient
from mediscale.storage import commits

WARD = source.parse("ward", BEDS)


@pytest.fixture
def holdings(settings: Settings) -> Holdings:
    """Patient 1, of beds 7 and 8, in a lake with another patient."""
    tables = {
        "bronze_stays": {"person": ["1", "2"], "stay": ["10", "20"]},
        "bronze_beds": {"person": ["1", "1.0", "2", "11"], "bed": ["7", "8", "9", "6"]},
    }
    for name, columns in tables.items():
        commits.append(settings, name, pa.table(columns), "ward", "made", 0)
    mine = Holdings(settings, Patient("ward", "1", 1))
    mine.__dict__["source"] = WARD  # of the call that landed it
    return mine


def test_a_patients_keys_are_read_where_the_patient_is_named(holdings: Holdings) -> None:
    assert holdings.visits.numbers == ("10",)
    assert holdings.visits.keys == {"alarms": ("7", "8")}, "1.0 is 1, and 11 is another"


def test_a_row_with_a_key_of_theirs_is_the_patients(holdings: Holdings) -> None:
    alarms = pa.table({"bed": ["7", "8.0", "9", None, "10"], "rung": ["a", "b", "c", "d", "e"]})
    assert holdings.columns("bronze_alarms", alarms.schema.names) == ["bed"]
    assert holdings.mask("bronze_alarms", alarms).to_pylist() == [True, True, False, False, False]


def test_a_row_that_names_another_patient_is_theirs_whatever_visit_it_names(holdings: Holdings) -> None:
    stays = pa.table({"person": ["1", "2", None, None], "stay": ["10", "10", "10", "20"]})
    assert holdings.mask("bronze_stays", stays).to_pylist() == [True, False, True, False]
