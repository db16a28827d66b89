"""Fuse two videos frame by frame, through OpenCV."""

import os
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm.auto import tqdm

from fusionlib.data.image_io import to_uint8
from fusionlib.data.image_types import to_image
from fusionlib.inference import registration
from fusionlib.inference.edge_matching import warp
from fusionlib.inference.pair import advice, fuse_tensors
from fusionlib.utils.errors import FusionError


def fuse_video(ir: Path, visible: Path, out: Path, instruction: str | None = None,
               align: str | None = None) -> tuple[Path, list[str]]:
    """Fuse two synchronous videos, and write out/<visible's name>.mp4 (MPEG-4, 8 bit, no sound).

    The alignment and the advice of "auto" come from the first frames and hold for the whole video, to avoid flicker.
    The codec needs even sides: of odd ones the last row or column is cut. `instruction` and `align` as for
    `fusionlib.fuse`.

    Returns:
        The path, and notes for the user: misaligned frames, or one video longer than the other.

    Raises:
        FusionError: a video that OpenCV cannot read, different sizes without `align`, or an existing result.
    """
    target, notes, counts, matrix, writer = out / f"{visible.stem}.mp4", [], [0, 0], None, None
    if target.exists():
        raise FusionError(f"{target}: expected no file of this name, found one; move it away, or choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    unfinished = out / f".{visible.stem}.{os.getpid()}.mp4"
    rate, total = (cv2.VideoCapture(str(visible)).get(what) for what in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
    try:
        frames = zip_longest(_frames(ir), _frames(visible))
        for pair in tqdm(frames, desc=visible.name, total=max(0, int(total)) or None, leave=False):
            counts = [count + (frame is not None) for count, frame in zip(counts, pair)]
            if any(frame is None for frame in pair):
                continue  # only counted
            size, partner = pair[1].shape[1::-1], pair[0].shape[1::-1]
            if size != partner and not align:
                raise FusionError(f"{visible}: expected frames of {partner[0]}x{partner[1]} like those of its infrared "
                                  f'partner {ir}, found {size[0]}x{size[1]}; resize one, or let align="features" do it')
            infrared, colour = to_image(pair[0], "frame").as_infrared(), to_image(pair[1], "frame").as_visible()
            if writer is None:
                writer = cv2.VideoWriter(str(unfinished), cv2.VideoWriter.fourcc(*"mp4v"), rate or 25, size)
                if align:
                    matrix = registration.align(infrared, colour, align)[1].numpy()
                elif sentence := registration.describe(infrared, colour):
                    notes.append(f"{ir} and {visible}: {sentence}")
                instruction = advice(infrared, colour) if instruction == "auto" else instruction
            if matrix is not None:
                infrared = torch.from_numpy(warp(infrared[0].numpy(), matrix, colour.shape[1:]))[None]
            writer.write(np.ascontiguousarray(to_uint8(fuse_tensors(infrared, colour, instruction))[..., ::-1]))
        if not all(counts):
            raise FusionError(f"{visible if counts[0] else ir}: expected a video that OpenCV can decode, found no "
                              "frame; convert it to mp4")
        writer.release()
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    if counts[0] != counts[1]:
        notes.append(f"{ir} has {counts[0]} frames and {visible} {counts[1]}: those that both have are fused in order "
                     "from the first; cut the two to the same interval if they are not synchronous")
    return target, notes


def _frames(path: Path) -> Iterator[np.ndarray]:
    """The frames of a video as uint8 [H,W,3] RGB."""
    video = cv2.VideoCapture(str(path))
    while (frame := video.read()[1]) is not None:
        yield frame[..., ::-1]
