"""XXH64 of many texts at once is that of the package xxhash, text by text."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh64_intdigest

from data_pipeline.ingest import xxhash64

BYTES = st.one_of(st.none(), st.binary(max_size=8), st.binary(max_size=100))
SEEDS = st.integers(0, 2**64 - 1)


@given(st.lists(st.tuples(BYTES, SEEDS), max_size=40), st.integers(0, 3))
def test_each_hash_is_that_of_its_text_and_seed(rows: list[tuple[bytes | None, int]], skipped: int) -> None:
    texts = pa.array([text for text, _ in rows], pa.binary())[skipped:]
    seeds = np.array([seed for _, seed in rows], np.uint64)[skipped:]
    assert xxhash64.of_texts(texts, seeds).tolist() == [
        seed if text is None else xxh64_intdigest(text, seed) for text, seed in rows[skipped:]
    ]
