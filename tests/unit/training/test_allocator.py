"""What a fit frees stays in the process, and only while it runs."""

import resource
import sys

from training.notes.allocator import keep_freed_memory

LARGE = 48 << 20
"""Bytes: above what glibc would ever keep by its own rules."""


def page_faults() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        assert len(b"x" * LARGE) == LARGE
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_freed_memory_is_kept_while_the_block_runs() -> None:
    before = page_faults()
    with keep_freed_memory():
        page_faults()
        kept = page_faults()
    after = page_faults()
    saved = 10 if sys.platform == "linux" else 0  # elsewhere the block changes nothing
    assert kept * saved < before
    assert kept * saved < after
