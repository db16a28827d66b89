"""Read, compute and write at the same time: threads read ahead and write behind what this thread computes.

OpenCV, zlib, NumPy and torch hold no lock of Python while they work, so threads are enough.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import torch

IN_FLIGHT = 6  # items that are read and not yet written: on two cores more of them gain nothing
#: Pixels of these items, beyond which one of them is in flight alone: a frame of 4K is as large.
PIXELS = 1 << 23
THREADS = min(4, os.cpu_count() or 1)  # that read, and as many that write


def pipelined(items: Iterable, read: Callable, compute: Callable, write: Callable, *, threads: int = THREADS,
              pixels: Callable = lambda item: 0) -> Iterator[tuple[object, Callable]]:  # fmt: skip
    """Do write(compute(read(item))) for each item, in the order of the items.

    `read` and `write` are called in threads, in the order of the items if `threads` is 1. `compute` is called in this
    one, since with another number of threads torch adds in another order. To be closed (`contextlib.closing`): what is
    computed by then is written first, and the rest is not read.

    Args:
        items: taken one by one, in this thread.
        pixels: of an item, so that memory stays bounded: beyond `PIXELS` no other item is in flight beside it.

    Yields:
        Each item, and a function that waits for the result of `write` or raises what one of the three raised.
    """
    items, total = iter(items), 0
    following = next(items, None)
    ahead, behind = deque(), deque()  # (item, its pixels, future): not yet computed; computed
    # One thread of torch in each of these: with as many as cores in all of them, they would wait for one another, and a
    # folder take longer than without them. `get` fixes the number of this thread, before theirs becomes the default.
    before, alone = torch.get_num_threads(), partial(torch.set_num_threads, 1)
    with (ThreadPoolExecutor(threads, initializer=alone) as writers,
          ThreadPoolExecutor(threads, initializer=alone) as readers):  # fmt: skip
        try:
            while True:
                while following is not None:
                    size, count = pixels(following), len(ahead) + len(behind)
                    if count and (count == IN_FLIGHT or total + size > PIXELS):
                        break
                    ahead.append((following, size, readers.submit(read, following)))
                    total, following = total + size, next(items, None)
                if behind and (not ahead or behind[0][2].done()):
                    item, size, future = behind.popleft()
                    yield item, future.result
                    total -= size
                elif ahead:
                    item, size, future = ahead.popleft()
                    behind.append((item, size, _computed(future, compute, write, writers)))
                    del future  # and with it what was read
                else:
                    return
        finally:
            readers.shutdown(cancel_futures=True)
            torch.set_num_threads(before)


def _computed(future: Future, compute: Callable, write: Callable, writers: ThreadPoolExecutor) -> Future:
    """The future result of `write`, or one that has failed like the step before it."""
    try:
        value = compute(future.result())
    except Exception as error:
        failed = Future()
        failed.set_exception(error)
        return failed
    return writers.submit(write, value)
