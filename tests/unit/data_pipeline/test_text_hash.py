"""The hash of a column of texts against the library's hash of each text."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh64_intdigest

from data_pipeline.ingest import text_hash
from data_pipeline.ingest.text_hash import hash_texts

SEEDS = st.integers(0, 2**64 - 1)


def by_library(texts: list[str | None], seeds: list[int]) -> list[int]:
    pairs = zip(texts, seeds, strict=True)
    return [seed if text is None else xxh64_intdigest(text.encode(), seed) for text, seed in pairs]


@given(st.lists(st.tuples(st.none() | st.text(max_size=80), SEEDS)), st.integers(0, 3))
def test_texts_of_any_length_hash_as_the_library_hashes_each(
    rows: list[tuple[str | None, int]], begin: int
) -> None:
    texts, seeds = [text for text, _ in rows], [seed for _, seed in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_hash, "_FEW", 1)  # every length is hashed as a column
        hashes = hash_texts(pa.array(texts, pa.string())[begin:], np.array(seeds, np.uint64)[begin:])
    assert hashes.tolist() == by_library(texts[begin:], seeds[begin:])


def test_lengths_that_few_texts_have_hash_as_those_of_many() -> None:
    texts = [*map(str, range(990, 2_000)), None, "", "ß" * 20, "0123456789" * 7]
    seeds = [42 + number for number in range(len(texts))]
    assert hash_texts(pa.array(texts), np.array(seeds, np.uint64)).tolist() == by_library(texts, seeds)
