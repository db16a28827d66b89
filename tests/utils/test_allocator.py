"""What the C library is asked to keep, it keeps until it is asked to hand it back; and a limit of memory holds."""

import mmap
import subprocess
import sys

import pytest

from fusionlib.utils import allocator

MEASURE = """
import sys, psutil, torch
from fusionlib.inference.pair import fusion_network
from fusionlib.utils.allocator import hand_back_freed_memory, keep_freed_memory

def used():
    return psutil.Process().memory_info().rss / 2**20

def fill():
    tensor = torch.ones(100 << 18)  # 100 MiB

before = used()
fill()
print(used() - before)
eval(sys.argv[1])()
fill()
print(used() - before)
hand_back_freed_memory()
print(used() - before)
"""


@pytest.mark.parametrize("call", ["keep_freed_memory", "fusion_network"])
def test_memory_is_kept_and_handed_back(call):
    if not hasattr(allocator._library(), "mallopt"):
        pytest.skip("the C library here is not glibc")
    done = subprocess.run([sys.executable, "-c", MEASURE, call], capture_output=True, text=True, check=True)
    freed, kept, handed_back = map(float, done.stdout.split())
    assert freed < 30 and kept > 90 and handed_back < 30


def test_another_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(allocator, "_library", lambda: None)
    assert not allocator.keep_freed_memory()
    allocator.hand_back_freed_memory()


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is that of Linux")
def test_a_limit_holds_inside_and_is_gone_outside():
    """Asked of the system itself: of the C library, earlier tests have let it keep memory."""
    import resource

    def take(size):
        mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE).close()

    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(KeyError), allocator.memory_limit(64 << 20):
        take(32 << 20)
        with pytest.raises(OSError, match="Cannot allocate memory"):
            take(1 << 30)
        with allocator.memory_limit(1 << 40), pytest.raises(OSError, match="Cannot allocate memory"):
            take(1 << 30)  # the limit around it holds, too
        raise KeyError
    take(1 << 30)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_other_systems_have_no_limit(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with allocator.memory_limit(0):
        assert len(bytearray(1 << 20)) == 1 << 20
