"""Pieces of patients: every row is in one, all of a patient in the same, and no extract opens too many files."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from data_pipeline.ingest.engine import PSEUDONYM_BITS
from data_pipeline.ingest.patient_pieces import MOST, PatientPieces


def test_an_extract_of_any_size_has_no_more_pieces_than_files_may_be_open(tmp_path: Path) -> None:
    drawn = np.random.default_rng(1).integers(0, PSEUDONYM_BITS, 5_000, endpoint=True).tolist()
    subjects = [0, PSEUDONYM_BITS, None, *drawn]
    rows = pa.record_batch(
        {"subject_id": pa.array(subjects, pa.int64()), "line": pa.array(range(len(subjects)))}
    )
    pieces = PatientPieces(tmp_path, 100_000)
    pieces.add([rows, rows])
    assert len(list(tmp_path.iterdir())) == MOST
    read = list(pieces.read())
    lines = np.concatenate([piece["line"].to_numpy() for piece in read])
    assert sorted(lines) == sorted([*range(len(subjects))] * 2)
    highest = [max(filter(None, piece["subject_id"].to_pylist())) for piece in read]
    lowest = [min(s for s in piece["subject_id"].to_pylist() if s is not None) for piece in read]
    assert all(before < after for before, after in zip(highest, lowest[1:], strict=False))
    assert None in read[-1]["subject_id"].to_pylist()
    assert not list(tmp_path.iterdir())
