"""What a fit frees stays in the process, and only while it runs."""

import subprocess
import sys

PAGE_FAULTS = """
import resource

from training.notes.allocator import keep_freed_memory

LARGE = 48 << 20  # bytes: above what glibc would ever keep by its own rules


def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        assert len(b"x" * LARGE) == LARGE
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


before = page_faults()
with keep_freed_memory():
    page_faults()
    kept = page_faults()
print(before, kept, page_faults())
"""


def test_freed_memory_is_kept_while_the_block_runs() -> None:
    # A process of its own: where other tests have left a free block that large, nothing is faulted in at all.
    run = subprocess.run([sys.executable, "-c", PAGE_FAULTS], capture_output=True, text=True, check=True)
    before, kept, after = (int(faults) for faults in run.stdout.split())
    saved = 10 if sys.platform == "linux" else 0  # elsewhere the block changes nothing
    assert kept * saved < before
    assert kept * saved < after
