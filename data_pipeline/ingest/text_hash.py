"""Text hash: XXH64, which Spark calls ``xxhash64``, of a column of texts at once.

Each fact of an extract has one, as the number of its event. Called for one text after the other, the hash took a fifth
of the time of an ingest; here texts of one length are columns of NumPy, which wraps around 64 bits as the hash does.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from xxhash import xxh64_intdigest

Hashes = npt.NDArray[np.uint64]

_1, _2, _3, _4, _5 = (
    np.uint64(prime)
    for prime in (
        0x9E3779B185EBCA87,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0x85EBCA77C2B2AE63,
        0x27D4EB2F165667C5,
    )
)

_FEW = 64
"""Texts of one length that are hashed sooner one by one."""


def hash_texts(texts: pa.Array, seeds: Hashes) -> Hashes:
    """The hash of each text's UTF-8, each with a seed of its own; that of a null is its seed."""
    hashes = seeds.copy()
    if not len(texts):
        return hashes
    _, starts, content = (np.frombuffer(buffer or b"", np.uint8) for buffer in texts.buffers())
    offsets = starts.view(np.int32)[texts.offset : texts.offset + len(texts) + 1]
    lengths = np.where(np.asarray(texts.is_valid()), np.diff(offsets), -1)
    own = np.concatenate([content[offsets[0] : offsets[-1]], np.zeros(8, np.uint8)])
    # The eight bytes from each byte on.
    lane_from = np.ndarray(len(own) - 7, "<u8", own, strides=(1,))
    for length in np.unique(lengths[lengths >= 0]).tolist():
        rows = np.flatnonzero(lengths == length)
        if len(rows) < _FEW:
            for row in rows:
                hashes[row] = xxh64_intdigest(texts[row].as_buffer(), int(seeds[row]))
            continue
        begins = offsets[rows] - offsets[0]
        lanes = [lane_from[begins + number] for number in range(0, length, 8)]
        hashes[rows] = _of_length(lanes, length, seeds[rows])
    return hashes


def _of_length(lanes: Sequence[Hashes], length: int, seeds: Hashes) -> Hashes:
    """The hashes of texts of one length, by their lanes of eight bytes; the last may go on behind the text."""
    whole = length // 8
    first = length // 32 * 4
    hashes = (_of_stripes(lanes[:first], seeds) if first else seeds + _5) + np.uint64(length)
    for lane in lanes[first:whole]:
        hashes = _rotated(hashes ^ _round(np.zeros_like(seeds), lane), 27) * _1 + _4
    rest, left = lanes[whole] if length % 8 else seeds, length % 8
    if left >= 4:
        hashes = _rotated(hashes ^ (rest & np.uint64(0xFFFFFFFF)) * _1, 23) * _2 + _3
        rest, left = rest >> np.uint64(32), left - 4
    for byte in range(left):
        hashes = _rotated(hashes ^ (rest >> np.uint64(8 * byte) & np.uint64(0xFF)) * _5, 11) * _1
    for shift, prime in ((33, _2), (29, _3), (32, np.uint64(1))):
        hashes = (hashes ^ hashes >> np.uint64(shift)) * prime
    return hashes


def _of_stripes(lanes: Sequence[Hashes], seeds: Hashes) -> Hashes:
    """What the first stripes of 32 bytes, of four lanes each, add up to."""
    sums = [seeds + _1 + _2, seeds + _2, seeds, seeds - _1]
    for number, lane in enumerate(lanes):
        sums[number % 4] = _round(sums[number % 4], lane)
    hashes: Hashes = np.sum(
        [_rotated(one, bits) for one, bits in zip(sums, (1, 7, 12, 18), strict=True)], axis=0
    )
    for one in sums:
        hashes = (hashes ^ _round(np.zeros_like(seeds), one)) * _1 + _4
    return hashes


def _round(sums: Hashes, lane: Hashes) -> Hashes:
    return _rotated(sums + lane * _2, 31) * _1


def _rotated(numbers: Hashes, bits: int) -> Hashes:
    rotated: Hashes = numbers << np.uint64(bits) | numbers >> np.uint64(64 - bits)
    return rotated
