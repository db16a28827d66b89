"""Random flip, rotation and crop of a pair together with its boxes (paper, section 4.1), from a seed."""

import math

import torch
from torch.nn.functional import interpolate

from fusionlib.utils.errors import FusionError


def augment(ir, visible, boxes, seed: int, crop=256, flip: bool = True, rotate="quarter", min_visible: float = 0.3):
    """Flip, rotate and crop a pair and its boxes alike; a pure function of its arguments.

    Args:
        ir, visible: float tensors [1,H,W] and [3,H,W].
        boxes: [N,4+] xyxy in pixels, whose further columns ride along (a class index), or None, which stays None.
        seed: any integer; another one for each picture and epoch.
        crop: side or (height, width) of the random crop in pixels; None takes no crop. A picture that is smaller is
            first enlarged until it covers the crop, so nothing is made up at its edges.
        flip: mirror left and right in half of the cases.
        rotate: "quarter" for 0 to 3 quarter turns, which are exact; a number for any angle up to so many degrees either
            way, after which the picture is cut to the largest upright part of its own proportions without empty
            corners; 0 for none. People lie on their side after a quarter turn: before a frozen detector, take few
            degrees or 0.
        min_visible: boxes of which a smaller part of the area is left in the crop are dropped, others are clipped.
            After a free rotation a box is the upright one around the turned one, so it is loose.

    Returns:
        ir [1,h,w], visible [3,h,w], boxes [M,4+] float32 with M <= N, or None.

    Raises FusionError where the two pictures differ in size or `rotate` is neither.
    """
    if ir.shape[-2:] != visible.shape[-2:]:
        raise FusionError(f"augment: expected pictures of one size, found infrared {list(ir.shape)} and visible "
                          f"{list(visible.shape)}; register the pair first")
    if isinstance(rotate, str) and rotate != "quarter":
        raise FusionError(f"augment: expected rotate='quarter' or a number of degrees, found {rotate!r}")
    draw = torch.Generator().manual_seed(int(seed))
    flipped, turn, down, right = torch.rand(4, generator=draw, dtype=torch.float64).tolist()
    image = torch.cat([ir, visible])  # one tensor, so that nothing can happen to one picture alone
    moved = torch.eye(3, dtype=torch.float64)  # the same steps as a matrix for points (x, y, 1)

    if flip and flipped < 0.5:
        image, moved = image.flip(-1), _affine(-1, 0, image.shape[-1], 0, 1, 0) @ moved
    if rotate == "quarter":
        for _ in range(int(4 * turn)):
            moved = _affine(0, 1, 0, -1, 0, image.shape[-1]) @ moved
            image = torch.rot90(image, 1, (-2, -1))
    elif rotate:
        image, step = _rotate(image, rotate * (2 * turn - 1))
        moved = step @ moved
    if crop is not None:
        height, width = (crop, crop) if isinstance(crop, int) else crop
        image, step = _enlarge(image, height, width)
        top = int(down * (image.shape[-2] - height + 1))
        left = int(right * (image.shape[-1] - width + 1))
        image = image[..., top : top + height, left : left + width]
        moved = _affine(1, 0, -left, 0, 1, -top) @ step @ moved

    if boxes is not None:
        boxes = _move_boxes(torch.as_tensor(boxes, dtype=torch.float32), moved, *image.shape[-2:], min_visible)
    return image[:1].contiguous(), image[1:].contiguous(), boxes


def random_exposure(image, seed: int):
    """Another exposure of an image [C,H,W] in 0..1: a gamma from 1/3 to 3, a gain from .5 to 1.3, an offset to .4.

    Each comes in some cases only. A pure function of its arguments. Training pairs of a few nights hold no daylight;
    what a network makes of bright images must then come from this.
    """
    draw = torch.Generator().manual_seed(int(seed))
    curved, moved, gamma, gain, offset = torch.rand(5, generator=draw).tolist()
    if curved < 0.7:
        image = image.clamp_min(1e-4) ** 3 ** (2 * gamma - 1)
    if moved < 0.5:
        image = (image * (0.5 + 0.8 * gain) + 0.5 * offset - 0.1).clamp(0, 1)
    return image


def _affine(*rows):
    return torch.tensor([*rows, 0, 0, 1], dtype=torch.float64).view(3, 3)


def _rotate(image, degrees):
    """Rotate anticlockwise about the centre and cut to the part of the same proportions without empty corners."""
    height, width = image.shape[-2:]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    from torchvision.transforms.v2 import InterpolationMode, functional  # here, for it takes two seconds to import

    turned = functional.rotate(image, degrees, InterpolationMode.BILINEAR)
    # The upright rectangle s w x s h, seen from the turned picture, is s (w |cos| + h |sin|) wide and s (w |sin| +
    # h |cos|) high; one pixel less at each edge, where bilinear interpolation reaches beyond the picture.
    scale = min(width / (width * abs(cos) + height * abs(sin)), height / (width * abs(sin) + height * abs(cos)))
    h, w = max(int(scale * height) - 2, 1), max(int(scale * width) - 2, 1)
    top, left = (height - h) // 2, (width - w) // 2
    x, y = width / 2, height / 2
    step = _affine(cos, sin, x - cos * x - sin * y - left, -sin, cos, y + sin * x - cos * y - top)
    return turned[..., top : top + h, left : left + w], step


def _enlarge(image, height, width):
    """Enlarge an image until it covers height x width, if it does not yet."""
    h, w = image.shape[-2:]
    scale = max(height / h, width / w, 1.0)
    size = [max(round(h * scale), height), max(round(w * scale), width)] if scale > 1 else [h, w]
    if size != [h, w]:
        image = interpolate(image[None], size, mode="bilinear", antialias=True)[0]
    return image, _affine(size[1] / w, 0, 0, 0, size[0] / h, 0)


def _move_boxes(boxes, moved, height, width, min_visible):
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2).cpu().double()  # MPS has no float64
    corners = corners @ moved[:2, :2].T + moved[:2, 2]
    whole = torch.cat([corners.amin(1), corners.amax(1)], 1)
    clipped = torch.minimum(whole.clamp(min=0), torch.tensor([width, height] * 2))
    kept = (_area(clipped) > 0) & (_area(clipped) >= min_visible * _area(whole))
    return torch.cat([clipped.float().to(boxes.device), boxes[:, 4:]], 1)[kept.to(boxes.device)]


def _area(boxes):
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
