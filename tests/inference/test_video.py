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

pytestmark = pytest.mark.usefixtures("one_thread")
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
