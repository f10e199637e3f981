"""What a process that runs networks on a CPU should do before it imports torch; the command line does."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_LARGEST = 2**31 - 1
_USUAL = 128 * 1024  # what it begins with


def tune_process() -> None:
    """Lets idle threads sleep, and the allocator keep what a frame has used for the next one.

    OpenMP's threads otherwise spin while they wait, which on a busy machine takes the processor from those that work.
    glibc otherwise gives every large tensor back to the system, which clears it anew, page by page, for the next layer.
    Call it before torch is imported; an environment that already says otherwise (OMP_WAIT_POLICY) is left alone. The
    results are the same to the bit. Elsewhere than on Linux with glibc only the threads change.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    _keep_memory(_LARGEST)


@contextmanager
def returning_memory() -> Iterator[None]:
    """Has the allocator give large tensors back at once while the block runs: so their memory can be measured.

    What it keeps comes to lie in pieces, which add to the peak of a process that runs several sizes.
    """
    before = _kept_below
    _keep_memory(_USUAL)
    try:
        yield
    finally:
        _keep_memory(before)


_kept_below = _USUAL


def _keep_memory(below: int) -> None:
    """Lets glibc keep what is freed of blocks smaller than `below` bytes."""
    global _kept_below
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "gnu_get_libc_version"):
        library.mallopt(_MMAP_THRESHOLD, below)
        library.mallopt(_TRIM_THRESHOLD, below)
        _kept_below = below
