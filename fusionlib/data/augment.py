"""Random flip, rotation and crop of a pair with its boxes (paper, section 4.1), and random exposure, from a seed."""

import math

import numpy as np
import torch
from torch.nn.functional import interpolate

from fusionlib.utils.errors import FusionError


def augment(ir, visible, boxes, seed: int, crop=256, flip: bool = True, rotate="quarter", min_visible: float = 0.3):
    """Flip, rotate and crop a pair and its boxes alike; a pure function of its arguments.

    Args:
        ir, visible: float tensors [1,H,W] and [3,H,W].
        boxes: [N,4+] xyxy in pixels, further columns (a class index) are passed through; or None.
        seed: a different one for each image and epoch.
        crop: side or (height, width) of the random crop in pixels, or None. A smaller image is enlarged to cover it.
        flip: mirror left and right with probability 1/2.
        rotate: "quarter" for 0 to 3 exact quarter turns; or the largest angle either way in degrees, after which the
            image is cut to the largest rectangle of its aspect ratio without empty corners; 0 for none. A frozen
            detector, which knows no people lying on their side, needs few degrees or 0.
        min_visible: boxes with a smaller share of their area in the crop are dropped, others are clipped. After a free
            rotation a box is the upright one around the rotated one, so it is loose.

    Returns ir [1,h,w], visible [3,h,w] and boxes [M,4+] float32 with M <= N, or None. Raises FusionError where the two
    images differ in size or `rotate` is another string.
    """
    if ir.shape[-2:] != visible.shape[-2:]:
        raise FusionError(f"augment: expected images of one size, found infrared {list(ir.shape)} and visible "
                          f"{list(visible.shape)}; register the pair first")
    if isinstance(rotate, str) and rotate != "quarter":
        raise FusionError(f"augment: expected rotate='quarter' or a number of degrees, found {rotate!r}")
    draw = torch.Generator().manual_seed(int(seed))
    flipped, turn, down, right = torch.rand(4, generator=draw, dtype=torch.float64).tolist()
    image = torch.cat([ir, visible])  # one tensor, so that both images are always treated alike
    matrix = torch.eye(3, dtype=torch.float64)  # the same steps for points (x, y, 1)

    if flip and flipped < 0.5:
        image, matrix = image.flip(-1), _affine(-1, 0, image.shape[-1], 0, 1, 0) @ matrix
    if rotate == "quarter":
        for _ in range(int(4 * turn)):
            matrix = _affine(0, 1, 0, -1, 0, image.shape[-1]) @ matrix
            image = torch.rot90(image, 1, (-2, -1))
    elif rotate:
        image, step = _rotate(image, rotate * (2 * turn - 1))
        matrix = step @ matrix
    if crop is not None:
        height, width = (crop, crop) if isinstance(crop, int) else crop
        image, step = _enlarge(image, height, width)
        top = int(down * (image.shape[-2] - height + 1))
        left = int(right * (image.shape[-1] - width + 1))
        image = image[..., top : top + height, left : left + width]
        matrix = _affine(1, 0, -left, 0, 1, -top) @ step @ matrix

    if boxes is not None:
        boxes = _move_boxes(torch.as_tensor(boxes, dtype=torch.float32), matrix, *image.shape[-2:], min_visible)
    return image[:1].contiguous(), image[1:].contiguous(), boxes


def random_exposure(image, seed: int):
    """Change the exposure of [C,H,W] in 0..1: gamma 1/3 to 3 in 70 %, gain .5 to 1.3 and offset -.1 to .4 in 50 %.

    A pure function of its arguments. Training pairs of a few nights lack the bright images of a day.
    """
    draw = torch.Generator().manual_seed(int(seed))
    curved, scaled, gamma, gain, offset = torch.rand(5, generator=draw).tolist()
    if curved < 0.7:
        image = image.clamp_min(1e-4) ** 3 ** (2 * gamma - 1)
    if scaled < 0.5:
        image = (image * (0.5 + 0.8 * gain) + 0.5 * offset - 0.1).clamp(0, 1)
    return image


def random_levels(seed: int) -> tuple[float, float]:
    """Gray levels of a flat infrared and a flat visible image: equal in 40 %, in 40 % one of them 0; from a seed.

    Photographs have few flat areas of either kind, on which the tone of a fused image can be seen.
    """
    level, other, kind = np.random.default_rng(seed).random(3)
    return [(level, level), (level, level), (level, 0.0), (0.0, level), (level, other)][int(5 * kind)]


def _affine(*rows):
    return torch.tensor([*rows, 0, 0, 1], dtype=torch.float64).view(3, 3)


def _rotate(image, degrees):
    """Rotate anticlockwise about the centre and cut to the aspect ratio without empty corners; also the matrix."""
    height, width = image.shape[-2:]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    from torchvision.transforms.v2 import InterpolationMode, functional  # here, since the import takes two seconds

    rotated = functional.rotate(image, degrees, InterpolationMode.BILINEAR)
    # The upright rectangle s w x s h, seen from the rotated image, is s (w |cos| + h |sin|) wide and s (w |sin| +
    # h |cos|) high; one pixel less at each edge, where bilinear interpolation reaches beyond the image.
    scale = min(width / (width * abs(cos) + height * abs(sin)), height / (width * abs(sin) + height * abs(cos)))
    h, w = max(int(scale * height) - 2, 1), max(int(scale * width) - 2, 1)
    top, left = (height - h) // 2, (width - w) // 2
    x, y = width / 2, height / 2
    step = _affine(cos, sin, x - cos * x - sin * y - left, -sin, cos, y + sin * x - cos * y - top)
    return rotated[..., top : top + h, left : left + w], step


def _enlarge(image, height, width):
    """Enlarge an image that does not cover height x width; also the matrix."""
    h, w = image.shape[-2:]
    scale = max(height / h, width / w)
    if scale <= 1:
        return image, torch.eye(3, dtype=torch.float64)
    size = max(round(h * scale), height), max(round(w * scale), width)
    image = interpolate(image[None], size, mode="bilinear", antialias=True)[0]
    return image, _affine(size[1] / w, 0, 0, 0, size[0] / h, 0)


def _move_boxes(boxes, matrix, height, width, min_visible):
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2).cpu().double()  # MPS has no float64
    corners = corners @ matrix[:2, :2].T + matrix[:2, 2]
    whole = torch.cat([corners.amin(1), corners.amax(1)], 1)
    clipped = torch.minimum(whole.clamp(min=0), torch.tensor([width, height] * 2))
    area, whole_area = ((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (clipped, whole))
    visible = (area > 0) & (area >= min_visible * whole_area)
    return torch.cat([clipped.float().to(boxes.device), boxes[:, 4:]], 1)[visible.to(boxes.device)]
