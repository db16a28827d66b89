"""The memory of this process: glibc's allocator, and a limit by Linux; on other systems nothing is changed."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8  # of glibc's malloc.h
_SETTINGS = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: 512 << 20, _ARENA_MAX: 1}


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, for its next tensors; returns whether that was possible.

    By default glibc hands large blocks back to the system and asks for them again at every training step, which nearly
    doubles the CPU time of a training. What a process frees is then free for itself alone: `hand_back_freed_memory`.
    Its threads share it, except those that have allocated before.
    """
    mallopt = getattr(_library(), "mallopt", None)
    return mallopt is not None and all(mallopt(*each) for each in _SETTINGS.items())


def hand_back_freed_memory() -> None:
    """Give the system the memory that is kept at the moment, such as after one of several large networks."""
    if trim := getattr(_library(), "malloc_trim", None):
        trim(0)


@contextmanager
def memory_limit(more: int) -> Iterator[None]:
    """Within it, this process can take so many more bytes: a larger allocation fails, in all threads.

    The limit is that of the data (RLIMIT_DATA), not of the address space, most of which a process never uses.
    """
    if sys.platform != "linux":
        yield
        return
    import resource

    import psutil

    before = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [psutil.Process().memory_info().data + more, *before]
    soft = min(limit for limit in limits if limit != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _library():
    return ctypes.CDLL(None) if sys.platform == "linux" else None
