"""A GIF in which a line sweeps over two images: the right one appears behind it, and goes again."""

import io
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

LONGEST = 640  # pixels of the longer side: such a GIF has some MB
STEPS = 16  # in each direction
MILLISECONDS = 70  # of a step
HOLD = 700  # milliseconds at both ends


def swipe(images: Sequence[np.ndarray], names: Sequence[str], region: Sequence[int] | None = None) -> bytes:
    """Make the GIF.

    Args:
        images: two, uint8 [H,W,3]; the second is resized to the first.
        names: of both, which are written below.
        region: part to show, xyxy in pixels of the first image; None: all of it.
    """
    height, width = images[0].shape[:2]
    x1, y1, x2, y2 = region or (0, 0, width, height)
    left, right = (cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)[y1:y2, x1:x2] for image in images)
    scale = min(1, LONGEST / max(x2 - x1, y2 - y1))
    size = [max(2, round(side * scale)) for side in (x2 - x1, y2 - y1)]
    left, right = (cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (left, right))
    # One table of colours for all frames, without dithering, so that still parts stay still.
    colours = Image.fromarray(np.concatenate([left, right])).quantize(256)
    frames = [_frame(left, right, names, step / STEPS, colours) for step in range(STEPS + 1)]
    frames += frames[-2:0:-1]
    times = [HOLD if step in (0, STEPS) else MILLISECONDS for step in range(2 * STEPS)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0)
    return buffer.getvalue()


def _frame(left, right, names, share, colours):
    line = round((1 - share) * left.shape[1])  # from right to left, so that the first frame is the left image
    pixels = np.concatenate([left[:, :line], right[:, line:]], axis=1)
    if 0 < share < 1:
        pixels[:, max(0, line - 1) : line + 1] = 255
    frame = Image.fromarray(pixels)
    draw = ImageDraw.Draw(frame)
    bottom, outline = frame.height - 4, {"fill": "white", "stroke_width": 2, "stroke_fill": "black"}
    if share < 1:
        draw.text((6, bottom), names[0], anchor="ls", **outline)
    if share > 0:
        draw.text((frame.width - 6, bottom), names[1], anchor="rs", **outline)
    return frame.quantize(palette=colours, dither=Image.Dither.NONE)
