"""Pieces of patients: rows that lie on disk, apart by ranges of ``subject_id``, so that one piece is in memory at once.

Pseudonyms are hashes (``engine.pseudonyms``), so that ranges of one width have about as many patients each.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_pipeline.ingest.engine import PSEUDONYM_BITS

MOST = 128
"""Pieces, whose files are open at once: macOS lets a process have 256, Linux 1,024."""


class PatientPieces:
    """A file for each piece, in a folder of scratch files; a row without a patient is of the last piece."""

    def __init__(self, folder: Path, pieces: int) -> None:
        """More than ``MOST`` pieces are not made; those of a larger extract have more patients."""
        self._folder = folder
        self._pieces = min(pieces, MOST)
        self._writers: dict[int, pa.RecordBatchStreamWriter] = {}
        self._open = ExitStack()

    def add(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Takes rows in; all have the same columns."""
        for batch in batches:
            for piece, rows in self._divided(batch):
                if piece not in self._writers:
                    self._writers[piece] = self._open.enter_context(self._writer(piece, batch.schema))
                self._writers[piece].write_batch(rows)

    def read(self) -> Iterator[pa.Table]:
        """The rows of each piece that has some, in the order of their patients' ranges; no more rows are taken in."""
        self._open.close()
        for piece in sorted(self._writers):
            with pa.OSFile(str(self._file(piece))) as file:
                yield pa.ipc.open_stream(file).read_all()
            self._file(piece).unlink()

    def _writer(self, piece: int, schema: pa.Schema) -> pa.RecordBatchStreamWriter:
        return pa.ipc.new_stream(str(self._file(piece)), schema)  # to compress costs more than to write

    def _file(self, piece: int) -> Path:
        return self._folder / f"patients-{piece}.arrow"

    def _divided(self, batch: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
        subjects = batch["subject_id"].fill_null(PSEUDONYM_BITS)
        piece = (np.asarray(subjects) / (PSEUDONYM_BITS + 1) * self._pieces).astype(np.int16)
        rows = batch.take(pa.array(np.argsort(piece, kind="stable")))
        begins = np.searchsorted(np.sort(piece), range(self._pieces + 1))
        for number, (begin, end) in enumerate(pairwise(begins.tolist())):
            if end > begin:
                yield number, rows.slice(begin, end - begin)
