"""Memory allocation of a fit: the C library keeps what a batch frees, for the next one.

Batches of many lengths need large tensors of many sizes. glibc gives each of them back to the system and faults its
pages in again for the next one, which took a fifth of a fit's CPU.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""``M_TRIM_THRESHOLD`` and ``M_MMAP_THRESHOLD`` of malloc.h."""
_NEVER = 2**31 - 1
_USUAL = {_TRIM_THRESHOLD: 64 << 20, _MMAP_THRESHOLD: 32 << 20}
"""Where glibc's own adjustment ends in a process that frees large blocks."""


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keeps freed memory in this process while the block runs; with another C library than glibc nothing changes."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):
        yield
        return
    for option in _USUAL:
        libc.mallopt(option, _NEVER)
    try:
        yield
    finally:
        for option, value in _USUAL.items():
            libc.mallopt(option, value)
        libc.malloc_trim(0)
