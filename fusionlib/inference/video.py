"""Fuse two videos frame by frame, through OpenCV."""

import errno
import math
import os
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm.auto import tqdm

from fusionlib.data import common_range
from fusionlib.data.image_io import MAX_PIXELS, to_uint8
from fusionlib.data.image_types import to_image, to_infrared
from fusionlib.data.infrared import DEFAULT, Reading, colours_of
from fusionlib.inference import registration
from fusionlib.inference.edge_matching import warp
from fusionlib.inference.pair import Fuser, advice, coverage_note, fuse_tensors, misalignment_note, remarks
from fusionlib.inference.parallel import in_order
from fusionlib.utils.errors import FusionError, encodable
from fusionlib.utils.files import begun, require_regular_file

#: The beginnings of mp4, mov, avi and mkv. Other formats of FFmpeg are lists of files, and would be followed.
CONTAINERS = re.compile(rb".{4}(?:ftyp|moov|mdat|free|skip|wide|pnot)|RIFF.{4}AVI |\x1aE\xdf\xa3", re.DOTALL)
HIGHEST_RATE = 65535  # frames per second, that MPEG-4 can state


def fuse_video(ir: Path, visible: Path, target: Path, instruction: str | None = None, align: str | None = None,
               reading: Reading = DEFAULT, fuser: Fuser | None = None) -> list[str]:
    """Fuse two videos that begin at the same time, and write an mp4 (MPEG-4, 8 bit, no sound) at the visible's rate.

    Each visible frame is fused with the infrared frame that is nearest by time stamp. The alignment, the advice of
    "auto", the infrared range and colour map come from the first frames (the range of `ir_range="auto"` from all over
    the video) and hold for the whole video, to avoid flicker. The codec needs even sides: of odd ones the last row or
    column is cut. `instruction` and `align` as for `fusionlib.fuse`.

    Returns:
        Notes for the user: misaligned frames, other rates, one video longer than the other.

    Raises:
        FusionError: a video that OpenCV cannot read, different sizes without `align`, an existing result, or one of
            which other frames can be read back than were written.
        OSError: the folder cannot be written.
    """
    if os.path.lexists(target):
        raise FusionError(f"{target}: expected no file of this name, found one; move it away, or choose another folder")
    (ir_rate, ir_total, *_), (rate, total, *_) = properties = [*map(_properties, (ir, visible))]
    pixels = [each[3] for each in properties]
    target.parent.mkdir(parents=True, exist_ok=True)
    if reading.ir_range == "auto":
        chosen = islice((frame for _, frame in _frames(ir)), 0, None, max(1, ir_total // common_range.IMAGES))
        reading = common_range.of_images(reading, chosen)
    notes = [f"{path} states no rate that a camera has: {each[0]:g} frames per second are taken"
             for path, each in zip((ir, visible), properties) if not each[2]]  # fmt: skip
    matrix, inside, writer, counts, written = None, None, None, [0, 0], 0

    def pairs():
        """Infrared [1,H,W] and colour [3,H,W] of each frame; the first decides what holds for all."""
        nonlocal reading, matrix, inside, writer, instruction
        for infrared, colour in _nearest(ir, visible, counts):
            size, partner = colour.shape[1::-1], infrared.shape[1::-1]
            if size != partner and not align:
                raise FusionError(f"{visible}: expected frames of {partner[0]}x{partner[1]} like those of its infrared "
                                  f'partner {ir}, found {size[0]}x{size[1]}; resize one, or let align="features" do it')
            reading = replace(reading, colours=reading.colours or colours_of(infrared))
            pair = to_infrared(infrared, str(ir), reading), to_image(colour, str(visible))
            infrared, colour = pair[0].plane, pair[1].as_visible()
            if writer is None:
                writer = _writer(unfinished, rate, size, target)
                notes.extend(remarks(*pair))
                if align:
                    matrix = registration.align(infrared, colour, align)[1]
                    inside = registration.coverage(matrix, pair[0].size, pair[1].size)
                    notes.extend(coverage_note(str(ir), inside))
                else:
                    notes.extend(misalignment_note(str(ir), str(visible), infrared, colour))
                instruction = advice(infrared, colour) if instruction == "auto" else instruction
            yield infrared, colour

    def fuse(pair):
        infrared, colour = pair
        if matrix is not None:
            infrared = torch.from_numpy(warp(infrared[0].numpy(), matrix.numpy(), colour.shape[1:]))[None]
        return to_uint8(fuse_tensors(infrared, colour, instruction, inside, fuser))

    with begun(target, ".mp4") as unfinished:
        frames = in_order(pairs(), fuse, lambda _: max(pixels))
        with closing(frames), tqdm(desc=visible.name, total=total or None, leave=False) as bar:
            for _, future in frames:
                writer.write(np.ascontiguousarray(future.result()[..., ::-1]))
                written += 1
                bar.update()
        if writer is None:
            raise FusionError(f"{visible if counts[0] else ir}: expected a video that OpenCV can decode, found no "
                              "frame; convert it to mp4")
        writer.release()
        if (found := _count(unfinished)) != written:  # OpenCV does not tell
            raise OSError(errno.ENOSPC, f"{found} of {written} frames can be read back, as on a full disk")
        unfinished.replace(target)
    return notes + _time_notes(ir, visible, counts, (ir_rate, rate))


def _writer(path: Path, rate: float, size: tuple[int, int], target: Path) -> cv2.VideoWriter:
    writer = cv2.VideoWriter(_name(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
    if not writer.isOpened():
        raise FusionError(f"{target}: expected frames that MPEG-4 can hold, found {size[0]}x{size[1]} pixels; resize "
                          "the videos to sides from 2 to 8190")
    return writer


def _count(path: Path) -> int:
    """The number of frames of a video that can be read."""
    video, count = cv2.VideoCapture(_name(path), cv2.CAP_FFMPEG), 0
    while video.grab():
        count += 1
    return count


def _name(path: Path) -> str:
    """A path as OpenCV takes it: absolute, so that no name is a protocol of FFmpeg."""
    name = os.path.abspath(path)
    if encodable(name) != name:
        raise FusionError(f"{path}: expected a name in UTF-8, as OpenCV needs for videos, found another one; rename it")
    return name


def _time_notes(ir, visible, counts, rates) -> list[str]:
    """What the user should know about the times of two videos with these numbers of frames and rates."""
    if abs(rates[0] - rates[1]) <= 0.01 * rates[1]:
        return [f"{ir} has {counts[0]} frames and {visible} {counts[1]}: those that both have are fused in order from "
                "the first; cut the two to the same interval if they are not synchronous"
                ] if counts[0] != counts[1] else []
    notes = [f"{ir} has {rates[0]:.4g} frames per second and {visible} {rates[1]:.4g}: each visible frame is fused "
             "with the infrared frame nearest in time, counted from the first frames"]
    lengths = [count / rate for count, rate in zip(counts, rates)]
    if abs(lengths[0] - lengths[1]) > 1 / min(rates):
        notes.append(f"{ir} lasts {lengths[0]:.1f} s and {visible} {lengths[1]:.1f} s: what both have is fused; if "
                     "they show the same time, the rate of one is wrong")
    return notes


def _nearest(ir: Path, visible: Path, counts: list[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each visible frame with the infrared frame nearest in time, until one ends; counts the frames of both."""
    infrared, duration = _frames(ir), 1 / _properties(ir)[0]

    def following():
        frame = next(infrared, None)
        counts[0] += frame is not None
        return frame

    now, then = following(), following()
    for time, colour in _frames(visible):
        counts[1] += 1
        while then is not None and abs(then[0] - time) < abs(now[0] - time):
            now, then = then, following()
        if now is not None and (then is not None or time < now[0] + 0.99 * duration):
            yield now[1], colour
    while following() is not None:
        pass


def _frames(path: Path) -> Iterator[tuple[float, np.ndarray]]:
    """The frames of a video as uint8 [H,W,3] RGB, with seconds since the first one."""
    video, (rate, _, is_stated, _) = _opened(path), _properties(path)
    first, last = None, None
    while (frame := video.read()[1]) is not None:
        stamp = video.get(cv2.CAP_PROP_POS_MSEC) / 1000 if is_stated else 0.0
        first = stamp if first is None else first
        time = stamp - first
        last = time if last is None or time > last else last + 1 / rate  # without usable stamps, by the rate
        yield last, frame[..., ::-1]


def _properties(path: Path) -> tuple[float, int, bool, int]:
    """Frames per second, the stated number of frames (or 0), whether the file states a rate (else it is 25), pixels."""
    video = _opened(path)
    rate, count = video.get(cv2.CAP_PROP_FPS), video.get(cv2.CAP_PROP_FRAME_COUNT)
    is_stated = 0 < rate <= HIGHEST_RATE
    pixels = int(video.get(cv2.CAP_PROP_FRAME_WIDTH) * video.get(cv2.CAP_PROP_FRAME_HEIGHT))
    return rate if is_stated else 25.0, max(0, int(count)), is_stated, pixels


def _opened(path: Path) -> cv2.VideoCapture:
    """Open a video. FusionError for what is none, so that FFmpeg opens no other file, and for one that is too large."""
    require_regular_file(path, "a video", math.inf)
    with open(path, "rb") as file:
        is_video = CONTAINERS.match(file.read(12))
    video = cv2.VideoCapture(_name(path), cv2.CAP_FFMPEG) if is_video else cv2.VideoCapture()
    width, height = (int(video.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    if width * height > MAX_PIXELS:
        raise FusionError(f"{path}: expected frames of at most {MAX_PIXELS:,} pixels, found {width}x{height}; resize "
                          "them")
    return video
