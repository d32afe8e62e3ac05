"""XXH64 (xxHash with 64 bits) of many texts at once, each with a seed of its own.

The package ``xxhash`` hashes one text a call, which for a hundred million of them is most of ingest. Here texts of one
length are hashed together: they take the same steps.
"""

from typing import Any

import numpy as np
import pyarrow as pa

_P1, _P2, _P3, _P4, _P5 = map(
    np.uint64,
    (
        0x9E3779B185EBCA87,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0x85EBCA77C2B2AE63,
        0x27D4EB2F165667C5,
    ),
)
_STRIPE = 32


def of_texts(texts: pa.Array, seeds: Any) -> Any:
    """The hashes of binary texts, ``uint64`` as the ``seeds``; a null's is its seed."""
    hashed = seeds.copy()
    _, offsets, data = texts.buffers()
    begin = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    letters = np.frombuffer(data if data is not None and data.size else b"\0", np.uint8)
    lengths = np.diff(begin)
    if texts.null_count:
        lengths[np.asarray(texts.is_null().to_numpy(zero_copy_only=False))] = -1
    order = np.argsort(lengths, kind="stable")
    bounds = np.flatnonzero(np.diff(lengths[order])) + 1
    for rows in np.split(order, bounds) if len(order) else ():
        if (length := int(lengths[rows[0]])) >= 0:
            matrix = letters[begin[rows, None] + np.arange(length)]
            hashed[rows] = _of_one_length(matrix, seeds[rows])
    return hashed


def _of_one_length(letters: Any, seeds: Any) -> Any:
    """The hashes of texts of one length, whose letters are the rows of a matrix."""
    n, length = letters.shape
    padded = np.zeros((n, -(-length // 8) * 8), np.uint8)
    padded[:, :length] = letters
    words = padded.view("<u8").T
    place = 0
    if length >= _STRIPE:
        lanes = [seeds + _P1 + _P2, seeds + _P2, seeds.copy(), seeds - _P1]
        while place + _STRIPE <= length:
            lanes = [_round(lane, words[place // 8 + i]) for i, lane in enumerate(lanes)]
            place += _STRIPE
        hashed = sum(_rotated(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True))
        for lane in lanes:
            hashed = (hashed ^ _round(np.uint64(0), lane)) * _P1 + _P4
    else:
        hashed = seeds + _P5
    hashed = hashed + np.uint64(length)
    while place + 8 <= length:
        hashed = _rotated(hashed ^ _round(np.uint64(0), words[place // 8]), 27) * _P1 + _P4
        place += 8
    if place + 4 <= length:
        half = padded[:, place : place + 4].copy().view("<u4")[:, 0].astype(np.uint64)
        hashed = _rotated(hashed ^ (half * _P1), 23) * _P2 + _P3
        place += 4
    for letter in letters[:, place:].T.astype(np.uint64):
        hashed = _rotated(hashed ^ (letter * _P5), 11) * _P1
    hashed = (hashed ^ (hashed >> np.uint64(33))) * _P2
    hashed = (hashed ^ (hashed >> np.uint64(29))) * _P3
    return hashed ^ (hashed >> np.uint64(32))


def _round(lane: Any, word: Any) -> Any:
    return _rotated(lane + word * _P2, 31) * _P1


def _rotated(words: Any, by: int) -> Any:
    return (words << np.uint64(by)) | (words >> np.uint64(64 - by))
