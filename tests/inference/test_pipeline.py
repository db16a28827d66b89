"""What is read ahead and written behind: order, bounds, failures and interrupts."""

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
from fusionlib.inference.pipeline import IN_FLIGHT, PIXELS, pipelined


def number(value):
    return value


def test_torch_has_one_thread_in_each_of_them_and_all_in_this_one():
    torch.set_num_threads(2)
    seen = [outcome() for _, outcome in pipelined(range(4), lambda _: [torch.get_num_threads()],
                                                  lambda counts: [*counts, torch.get_num_threads()],
                                                  lambda counts: [*counts, torch.get_num_threads()])]
    assert seen == [[1, 2, 1]] * 4 and torch.get_num_threads() == 2
    with ThreadPoolExecutor(1) as later:
        assert later.submit(torch.get_num_threads).result() == 2


def outcomes(*steps, count=30, **options):
    """The result or the error of each item."""
    found = []
    with closing(pipelined(range(count), *steps, **options)) as pairs:
        for item, outcome in pairs:
            try:
                found.append((item, outcome()))
            except ValueError as error:
                found.append((item, str(error)))
    return found


def failing(at, name):
    def step(value):
        if value == at:
            raise ValueError(name)
        return value

    return step


def test_results_and_errors_come_in_order_and_an_error_ends_nothing():
    found = outcomes(failing(7, "read"), failing(11, "compute"), failing(13, "write"))
    assert found == [(i, {7: "read", 11: "compute", 13: "write"}.get(i, i)) for i in range(30)]
    assert outcomes(number, number, number, count=0) == []


def test_the_steps_overlap_and_only_the_middle_one_is_in_this_thread():
    next_is_read, next_is_computed, threads = threading.Event(), threading.Event(), {}

    def read(item):
        threads.setdefault("read", set()).add(threading.current_thread())
        if item == 1:
            next_is_read.set()
        return item

    def compute(item):
        threads.setdefault("compute", set()).add(threading.current_thread())
        if item == 1:
            next_is_computed.set()
        return item, item or next_is_read.wait(60)

    def write(value):
        threads.setdefault("write", set()).add(threading.current_thread())
        return value[1] if value[0] else value[1] and next_is_computed.wait(60)

    assert outcomes(read, compute, write, count=3, threads=1) == [(0, True), (1, 1), (2, 2)]
    assert threads["compute"] == {threading.current_thread()}
    assert len(threads["read"] | threads["write"] | threads["compute"]) == 3


@pytest.mark.parametrize(("pixels", "most"), [(0, IN_FLIGHT), (PIXELS // 2, 2), (PIXELS // 2 + 1, 1), (10 * PIXELS, 1)])
def test_few_items_are_in_flight(pixels, most):
    lock, now, peak = threading.Lock(), 0, 0

    def read(item):
        nonlocal now, peak
        with lock:
            now += 1
            peak = max(peak, now)
        return item

    def write(item):
        nonlocal now
        with lock:
            now -= 1
        return item

    def slow(item):
        time.sleep(0.002)  # so that it is read far ahead
        return item

    assert len(outcomes(read, slow, write, pixels=lambda _: pixels)) == 30
    assert now == 0 and peak <= most and (peak > 1) == (most > 1)


def test_what_is_computed_is_written_when_it_ends_early():
    read, computed, written = [], [], []
    with closing(pipelined(range(1000), lambda i: read.append(i) or i, lambda i: computed.append(i) or i,
                           lambda i: written.append(i) or i)) as pairs:  # fmt: skip
        next(pairs)[1]()
    assert sorted(written) == computed != [] and len(read) <= IN_FLIGHT + 1


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


