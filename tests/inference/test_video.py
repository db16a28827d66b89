"""Two videos in, one out."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import fusionlib as fl
from fusionlib.inference import registration
from fusionlib.inference.folder import fuse_files
from fusionlib.utils.errors import FusionError

HEIGHT, WIDTH = 48, 64


def record(path, frames, rate=10):
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), rate, frames[0].shape[1::-1])
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()


def frames_of(path):
    video, frames = cv2.VideoCapture(str(path)), []
    while (frame := video.read()[1]) is not None:
        frames.append(frame[..., ::-1])
    return frames, video.get(cv2.CAP_PROP_FPS)


def smooth(seed):
    """Three frames that a codec keeps well."""
    small = np.random.default_rng(seed).integers(256, size=(3, 3, 4, 3), dtype=np.uint8)
    return [cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for frame in small]


@pytest.fixture
def videos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registration, "describe", lambda *_: None)
    record("ir.mp4", [np.repeat(frame[..., :1], 3, 2) for frame in smooth(0)])
    record("visible.mp4", smooth(1))


def test_frames_are_fused_one_by_one(videos):
    assert fl.fuse("ir.mp4", "visible.mp4", out="out") == [Path("out/visible.mp4")]
    assert [path.name for path in Path("out").iterdir()] == ["visible.mp4"]
    (fused, rate), (ir, _), (visible, _) = map(frames_of, ("out/visible.mp4", "ir.mp4", "visible.mp4"))
    assert rate == 10 and len(fused) == 3
    for frame, *pair in zip(fused, ir, visible):
        assert np.abs(frame.astype(int) - fl.fuse(*pair)).mean() < 4  # grey values, which the codec rounds
    with pytest.raises(FusionError, match=r"out/visible.mp4: expected no file of this name"):
        fuse_files("ir.mp4", "visible.mp4", "out")


def test_the_first_frame_says_what_auto_means(text_dfh_weights, videos):
    fl.fuse("ir.mp4", "visible.mp4", "auto", out="out")
    (fused, _), (ir, _), (visible, _) = map(frames_of, ("out/visible.mp4", "ir.mp4", "visible.mp4"))
    assert np.abs(fused[0].astype(int) - fl.fuse(ir[0], visible[0], "auto")).mean() < 4


def test_one_that_ends_earlier_and_frames_that_do_not_line_up_are_said(videos, capfd, monkeypatch):
    record("ir.mp4", smooth(0)[:2])
    monkeypatch.setattr(registration, "describe", lambda *_: "they do not line up")
    fuse_files("ir.mp4", "visible.mp4", "out")
    said = capfd.readouterr().err
    assert "ir.mp4 has 2 frames and visible.mp4 3: those that both have are fused" in said
    assert said.count("they do not line up") == 1
    assert len(frames_of("out/visible.mp4")[0]) == 2


def moving(path, rate, seconds, start=0.0, shade=255):
    """A bar that is at 20 pixels per second, from `start` seconds on."""
    frames = []
    for number in range(round(rate * seconds)):
        frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        left = round(20 * (start + number / rate))
        frame[10:30, left : left + 6] = shade
        frames.append(frame)
    record(path, frames, rate)


def place(frame):
    return float(np.flatnonzero(frame[20].astype(int).max(1) > 128).mean())


@pytest.mark.parametrize(("ir_rate", "rate"), [(9, 30), (30, 10), (8.7, 25)])
def test_frames_are_matched_by_their_times(videos, capfd, ir_rate, rate):
    moving("ir.mp4", ir_rate, 2.0)
    Path("visible.mp4").unlink()
    moving("visible.mp4", rate, 2.0, shade=0)
    fuse_files("ir.mp4", "visible.mp4", "out")
    fused, out_rate = frames_of("out/visible.mp4")
    assert out_rate == rate and len(fused) in (2 * rate, 2 * rate - 1)
    error = [place(frame) - (2.5 + 20 * number / rate) for number, frame in enumerate(fused)]
    assert np.abs(error).max() <= 20 * 0.5 / min(ir_rate, 2 * rate) + 1.2
    said = capfd.readouterr().err
    assert f"ir.mp4 has {ir_rate:.4g} frames per second and visible.mp4 {rate}: each visible frame is fused" in said
    assert "lasts" not in said


def test_other_lengths_at_other_rates_are_said(videos, capfd):
    moving("ir.mp4", 9, 1.0)
    moving("visible.mp4", 30, 2.0, shade=0)
    fuse_files("ir.mp4", "visible.mp4", "out")
    assert "ir.mp4 lasts 1.0 s and visible.mp4 2.0 s: what both have is fused" in capfd.readouterr().err
    assert len(frames_of("out/visible.mp4")[0]) == 30


def test_a_file_is_written_where_one_is_named(videos):
    assert fl.fuse("ir.mp4", "visible.mp4", out="new/fused.mp4") == [Path("new/fused.mp4")]
    assert [path.name for path in Path("new").iterdir()] == ["fused.mp4"]
    with pytest.raises(FusionError, match=r"fused.avi: expected a folder or a file that ends in \.mp4, found \.avi"):
        fl.fuse("ir.mp4", "visible.mp4", out="fused.avi")


def test_range_inversion_and_colour_map_hold_for_the_video(videos, capfd):
    levels = [np.full((HEIGHT, WIDTH, 3), 40, np.uint8) for _ in range(4)]
    for number, frame in enumerate(levels):
        frame[:, WIDTH // 2 :] = 60 + 10 * number
    record("ir.mp4", levels)
    record("visible.mp4", [np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * 4)
    fuse_files("ir.mp4", "visible.mp4", "auto", ir_range="auto")
    assert "% of all images) become black and white" in capfd.readouterr().err
    stretched, _ = frames_of("auto/visible.mp4")
    right = [frame[10:30, -15:].mean() for frame in stretched]  # one range: each brighter than the one before
    assert right[0] < right[1] - 20 < right[2] - 40 < right[3] - 60 and right[3] > 230
    fuse_files("ir.mp4", "visible.mp4", "inverted", ir_range=(40, 90), invert_ir=True)
    inverted, _ = frames_of("inverted/visible.mp4")
    assert inverted[0][10:30, :15].mean() > 230 and inverted[3][10:30, -15:].mean() < 25

    jet = [cv2.applyColorMap(frame[..., 0], cv2.COLORMAP_JET)[..., ::-1] for frame in smooth(0)]
    record("jet.mp4", jet)
    record("gray.mp4", [np.repeat(frame[..., :1], 3, 2) for frame in smooth(0)])
    record("visible.mp4", smooth(1))
    for name in ("jet", "gray"):
        fuse_files(f"{name}.mp4", "visible.mp4", name)
    assert "jet.mp4: in false colours (jet), which are turned back into gray" in capfd.readouterr().err
    for one, other in zip(frames_of("jet/visible.mp4")[0], frames_of("gray/visible.mp4")[0]):
        assert np.abs(one.astype(int) - other).mean() < 10


def test_where_infrared_does_not_reach_the_frames_are_the_visible_ones(videos, capfd, monkeypatch):
    record("ir.mp4", [frame[8:-8, 12:-12] for frame in smooth(0)])
    shift = torch.tensor([[1, 0, 12], [0, 1, 8], [0, 0, 1.0]])
    monkeypatch.setattr(registration, "align", lambda *_: (None, shift))
    fuse_files("ir.mp4", "visible.mp4", "out", align="ecc")
    assert "ir.mp4: infrared covers 42% of the visible image" in capfd.readouterr().err
    for fused, visible in zip(frames_of("out/visible.mp4")[0], frames_of("visible.mp4")[0]):
        assert np.abs(fused[:4].astype(int) - visible[:4]).mean() < 6  # the codec


def test_another_size_is_refused_or_aligned_once(videos, monkeypatch):
    record("ir.mp4", [frame[::2, ::2] for frame in smooth(0)])
    with pytest.raises(FusionError, match=r"visible.mp4: expected frames of 32x24 like .* ir.mp4, found 64x48; resize"):
        fuse_files("ir.mp4", "visible.mp4", "out")
    assert not list(Path("out").iterdir())
    calls = []
    double = torch.tensor([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]])
    monkeypatch.setattr(registration, "align", lambda *given: calls.append(given[2]) or (None, double))
    fuse_files("ir.mp4", "visible.mp4", "out", align="ecc")
    assert calls == ["ecc"]
    (fused, _), (ir, _), (visible, _) = map(frames_of, ("out/visible.mp4", "ir.mp4", "visible.mp4"))
    large = cv2.resize(ir[2], (WIDTH, HEIGHT))
    assert np.abs(fused[2].astype(int) - fl.fuse(large, visible[2])).mean() < 4


def test_what_is_no_video_is_named(videos):
    Path("ir.mp4").write_bytes(b"no video")
    with pytest.raises(FusionError, match=r"ir.mp4: expected a video that OpenCV can decode, found no frame"):
        fuse_files("ir.mp4", "visible.mp4", "out")
    with pytest.raises(FusionError, match=r"ir.mp4: expected an image, found a video; .*out=FOLDER"):
        fl.fuse("ir.mp4", "visible.mp4")
