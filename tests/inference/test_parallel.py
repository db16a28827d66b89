"""Several images at the same time: order, bounds, failures and interrupts."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import fusionlib as fl
from fusionlib.data.image_io import read_image, write_image
from fusionlib.inference.folder import fuse_files
from fusionlib.inference.parallel import PIXELS, WINDOW, WORKERS, in_order


@pytest.fixture
def cores():
    """Two threads of torch, which is what decides the number of workers."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield 2
    torch.set_num_threads(before)


def outcomes(work, count=30, pixels=lambda item: 0):
    """The result or the error of each item."""
    with closing(in_order(range(count), work, pixels)) as done:
        return [(item, str(future.exception() or future.result())) for item, future in done]


def test_each_worker_has_its_share_of_the_threads_of_torch_and_this_one_has_all(cores):
    def count(item):
        return torch.get_num_threads()

    assert outcomes(count, 4) == [(i, "1") for i in range(4)] and torch.get_num_threads() == cores
    assert outcomes(count, 3, lambda item: PIXELS + (item == 1)) == [(0, "1"), (1, "2"), (2, "1")]
    with ThreadPoolExecutor(1) as later:
        assert later.submit(torch.get_num_threads).result() == cores
    torch.set_num_threads(2 * WORKERS + 1)
    assert outcomes(count, 4) == [(i, "2") for i in range(4)]


def test_results_and_errors_come_in_order_and_an_error_ends_nothing(cores):
    def work(item):
        time.sleep(0.002 * (item % 3 == 0))
        if item in (0, 7, 13):
            raise ValueError(f"error {item}")
        return item

    assert outcomes(work) == [(i, f"error {i}" if i in (0, 7, 13) else str(i)) for i in range(30)]
    assert outcomes(work, 0) == []


def test_two_are_worked_on_at_the_same_time_and_none_in_this_thread(cores):
    both, threads = threading.Barrier(2), set()

    def work(item):
        threads.add(threading.current_thread())
        both.wait(60)  # for the other one
        return item

    assert outcomes(work, 6) == [(i, str(i)) for i in range(6)]
    assert len(threads) == 2 and threading.current_thread() not in threads


@pytest.mark.parametrize(("pixels", "most"), [(0, 2), (PIXELS, 2), (PIXELS + 1, 1)])
def test_large_items_are_worked_on_alone(cores, pixels, most):
    lock, now, peak = threading.Lock(), 0, 0

    def work(item):
        nonlocal now, peak
        with lock:
            now += 1
            peak = max(peak, now)
        time.sleep(0.005)
        with lock:
            now -= 1

    assert len(outcomes(work, pixels=lambda item: pixels if item % 2 else 0)) == 30
    assert now == 0 and peak == most


def test_what_is_taken_depends_on_what_was_handed_on_alone(cores):
    """Not on which item is done first: else a folder would be sampled in another way by each call."""
    taken, seen = [], []

    def items():
        for item in range(30):
            taken.append(item)
            yield item

    with closing(in_order(items(), lambda item: time.sleep(0.01 * (item == 4)))) as done:
        for item, _ in done:
            seen.append((item, len(taken)))
    assert seen == [(i, min(30, i + WINDOW + 1)) for i in range(30)]


def test_what_is_begun_is_finished_when_it_ends_early(cores):
    begun, finished = [], []

    def work(item):
        begun.append(item)
        time.sleep(0.01)
        finished.append(item)

    with closing(in_order(range(1000), work)) as done:
        next(done)
    assert sorted(begun) == sorted(finished) and 0 < len(begun) <= WINDOW


def test_an_error_of_the_items_ends_it(cores):
    def items():
        yield from range(3)
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"), closing(in_order(items(), str)) as done:
        list(done)
    assert torch.get_num_threads() == cores


# ---- processes that are stopped


def started(ir, visible):
    """The command as a process that can be interrupted, also where these tests run in the background of a shell."""
    search = os.pathsep.join([str(fl.ROOT), os.environ.get("PYTHONPATH", "")])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen([sys.executable, "-m", "fusionlib", "fuse", "--ir", ir, "--visible", visible, "--out",
                                 "out"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": search})  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)


def wait_for(process, pattern):
    while process.poll() is None and not list(Path("out").glob(pattern)):
        time.sleep(0.005)


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no such signals")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_whole_images_alone_and_the_next_call_resumes(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).integers(256, size=(96, 128, 3), dtype=np.uint8)
    write_image("ir/000.png", noise[..., 0])
    write_image("vi/000.png", noise)
    for i in range(1, 120):
        for folder in ("ir", "vi"):
            shutil.copy(f"{folder}/000.png", f"{folder}/{i:03d}.png")
    process = started("ir", "vi")
    wait_for(process, "0*.png")
    process.send_signal(kind)
    _, error = process.communicate(timeout=100)
    assert process.returncode == 130 and b"interrupted: what is finished is kept" in error and b"Traceback" not in error
    made = {path.name: path.stat().st_mtime_ns for path in Path("out").iterdir()}
    assert 0 < len(made) < 120 and all(name[0] == "0" and read_image(f"out/{name}").any() for name in made)

    assert len(fuse_files("ir", "vi", "out")) == len(list(Path("out").iterdir())) == 120
    assert made == {name: Path("out", name).stat().st_mtime_ns for name in made}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
def test_the_part_of_a_video_that_was_killed_is_removed_by_the_next_call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, count in (("ir.mp4", 400), ("vi.mp4", 400), ("short.mp4", 2)):
        writer = cv2.VideoWriter(name, cv2.VideoWriter.fourcc(*"mp4v"), 10, (128, 96))
        for shade in range(count):
            writer.write(np.full((96, 128, 3), shade % 200, np.uint8))
        writer.release()
    process = started("ir.mp4", "vi.mp4")
    wait_for(process, ".vi.mp4.*.mp4")
    shutil.copy("short.mp4", "other.mp4")
    fuse_files("short.mp4", "other.mp4", "out")
    fuse_files("short.mp4", "other.mp4", "out/more.mp4")
    begun = [path.name for path in Path("out").glob(".*")]
    assert process.poll() is None and begun == [f".vi.mp4.{process.pid}.mp4"]  # of one that lives
    process.kill()
    process.communicate()
    assert len(list(Path("out").glob(".vi*"))) == 1
    Path("vi.mp4").unlink()
    shutil.copy("short.mp4", "vi.mp4")
    fuse_files("short.mp4", "vi.mp4", "out")
    assert sorted(path.name for path in Path("out").iterdir()) == ["more.mp4", "other.mp4", "vi.mp4"]


