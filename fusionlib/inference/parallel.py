"""Work on several images at the same time, and hand on the results in the order of the images.

torch, OpenCV, zlib and NumPy hold no lock of Python while they work, so threads are enough.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import torch

from fusionlib.utils.allocator import keep_freed_memory

WORKERS = 4  # threads, at most: more of them take more memory, and so have several threads of torch each instead
WINDOW = 8  # items that are begun and not yet handed on
#: Pixels of an item, beyond which it is worked on alone, by all threads of torch: memory stays bounded.
PIXELS = 1 << 22


def in_order(items: Iterable, work: Callable, pixels: Callable = lambda item: 0) -> Iterator[tuple[object, Future]]:
    """Call `work` for each item in one of several threads, and yield the item and the finished future in order.

    An image takes less time on two threads than on one, but far more than half of it, so each has its own thread of
    torch. To be closed (`contextlib.closing`): what is begun by then is finished, and the rest is not begun.

    Args:
        items: taken one by one in this thread, at most `WINDOW` + 1 ahead of what is yielded. How many ahead depends on
            their sizes alone and never on time, so that what is taken may depend on earlier results.
        pixels: of an item, see `PIXELS`.
    """
    cores = torch.get_num_threads()  # fixes the number of this thread, before that of the workers is the default
    workers = min(WORKERS, cores)

    def run(item):
        torch.set_num_threads(cores if pixels(item) > PIXELS else cores // workers)
        return work(item)

    def fits(item):
        alone = pending and max(pixels(item), pixels(pending[-1][0])) > PIXELS
        return len(pending) < WINDOW and not alone

    keep_freed_memory()  # of all workers together, if they are not there yet
    items, pending = iter(items), deque()
    following = next(items, None)
    pool = ThreadPoolExecutor(workers)
    try:
        while following is not None or pending:
            while following is not None and fits(following):
                pending.append((following, pool.submit(run, following)))
                following = next(items, None)
            wait([pending[0][1]])
            yield pending.popleft()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(cores)
