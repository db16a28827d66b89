"""What the C library is asked to keep, it keeps until it is asked to hand it back; and a limit of memory holds."""

import subprocess
import sys

import pytest

from fusionlib.utils import allocator

MEASURE = """
import ctypes, psutil, torch
from fusionlib.utils.allocator import hand_back_freed_memory, keep_freed_memory

def used():
    return psutil.Process().memory_info().rss / 2**20

def fill():
    tensor = torch.ones(100 << 18)  # 100 MiB

before = used()
fill()
print(used() - before)
assert keep_freed_memory()
fill()
print(used() - before)
hand_back_freed_memory()
print(used() - before)
"""


def test_memory_is_kept_and_handed_back():
    if not hasattr(allocator._library(), "mallopt"):
        pytest.skip("the C library here is not glibc")
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    freed, kept, handed_back = map(float, done.stdout.split())
    assert freed < 30 and kept > 90 and handed_back < 30


def test_another_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(allocator, "_library", lambda: None)
    assert not allocator.keep_freed_memory()
    allocator.hand_back_freed_memory()


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is that of Linux")
def test_a_limit_holds_inside_and_is_gone_outside():
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    bytearray(4 << 30)  # which takes no memory until it is written to
    with pytest.raises(KeyError), allocator.memory_limit(64 << 20):
        assert len(bytearray(32 << 20)) == 32 << 20
        with pytest.raises(MemoryError):
            bytearray(4 << 30)
        with allocator.memory_limit(1 << 40), pytest.raises(MemoryError):  # the one around it holds, too
            bytearray(4 << 30)
        raise KeyError
    bytearray(4 << 30)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_other_systems_have_no_limit(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with allocator.memory_limit(0):
        assert len(bytearray(1 << 20)) == 1 << 20
