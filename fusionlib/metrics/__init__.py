"""Fusion metrics as this literature computes them: one module per family, and one table of what each number means.

`METRICS` says of every metric its direction, its source and, under each of the `CONVENTIONS` of evaluation code, its
range and definition. Numbers of different conventions are not comparable, so every table should name the convention.
"""

import math
import warnings
from collections.abc import Iterable

import torch

from fusionlib.data.image_types import to_image, to_infrared
from fusionlib.metrics.conventions import CONVENTIONS, METRICS, PAPER, Convention, Metric, Rule, check, describe
from fusionlib.utils.errors import FusionError

__all__ = ["CONVENTIONS", "METRICS", "PAPER", "Convention", "Metric", "Rule", "describe", "evaluate"]

CACHED = 2**19  # values per image of a metric's arithmetic that a usual second and third level cache holds


@torch.no_grad()
def evaluate(fused, ir, visible, names: Iterable[str] = PAPER, convention: str = "vifb") -> dict[str, torch.Tensor]:
    """Measure fused images against their sources.

    Args:
        fused, ir, visible: batches [B, 1 or 3, H, W], uint8, or float 0..1 on any device; or one image each, of any
            type that `fusionlib.fuse` takes or returns: a path, an array [H,W] or [H,W,1|3|4], a PIL image, a tensor
            [H,W] or [1|3|4,H,W]. Transparency is left out. All are rounded to 8 bits first, because evaluation codes
            read image files and some metrics depend on whole gray values.
        names: keys of `METRICS`.
        convention: whose rules: "vifb", the benchmark of Zhang et al. (2020), where colour is the mean over R, G and B;
            "tang" and "cddfuse", two evaluation codes that turn everything to gray first. `CONVENTIONS` says more.

    Returns:
        {name: float32 tensor [B]} on the device of `fused`, [1] for single images. A metric that is 0/0 for an image
        (each metric's docstring says when) is NaN there.

    Raises:
        FusionError: an unknown metric or convention, or images that do not fit in type, range, shape or size.

    Warns:
        UserWarning: a single infrared image is radiometric or in false colours, with what was made of it.
    """
    names = tuple(names)
    check(names, convention)
    rules = {name: METRICS[name].rules[convention] for name in names}
    fused, ir, visible = _batch(fused, "fused"), _batch(ir, "infrared"), _batch(visible, "visible")
    fused = _gray_values(fused, "fused")
    ir, visible = _gray_values(ir, "infrared").to(fused.device), _gray_values(visible, "visible").to(fused.device)
    for other, what in ((ir, "infrared"), (visible, "visible")):
        if (len(other), *other.shape[-2:]) != (len(fused), *fused.shape[-2:]):
            raise FusionError(f"The {what} images are {_shape(other)} and the fused ones {_shape(fused)}, but number, "
                              "height and width must agree: resize the images before measuring them.")
    for name, rule in rules.items():
        if min(fused.shape[-2:]) < rule.min_size:
            raise FusionError(f"{name} needs images of at least {rule.min_size} pixels a side, but these are "
                              f"{_shape(fused)}: use larger images or leave it out.")
    colour = CONVENTIONS[convention].colour
    # A few images at a time: on a CPU the planes of more would not stay in the cache between two operations.
    count = len(fused) if fused.device.type != "cpu" else max(1, CACHED // fused[0].numel())
    pieces = [tuple(map(colour, piece)) for piece in zip(*(image.split(count) for image in (fused, ir, visible)))]
    return {
        name: torch.cat([rule.function(*piece).mean(1).to(fused) for piece in pieces]) for name, rule in rules.items()
    }


def _batch(image, what):
    """A single image of any type as a batch of one; a batch as it is."""
    if isinstance(image, torch.Tensor) and image.ndim == 4:
        return image
    if what != "infrared":
        return to_image(image, what).pixels[None]
    infrared = to_infrared(image, what)
    for _, sentence in infrared.remarks:
        warnings.warn(f"{infrared.name}: {sentence}", stacklevel=4)  # of the caller of `evaluate`, which is decorated
    return infrared.plane[None]


def _gray_values(image, what):
    """Check one batch and return it as float32 gray values, whole numbers 0..255."""
    if image.shape[1] not in (1, 3) or not image.numel():
        raise FusionError(f"The {what} images must be [B, 1 or 3, H, W] with pixels in them, but are {_shape(image)}: "
                          "use image[:, :3] to drop an alpha channel.")
    if image.dtype == torch.uint8:
        return image.float()
    if not image.is_floating_point():
        raise FusionError(f"The {what} images must be uint8, or float 0..1, but are {image.dtype}: divide by the "
                          "largest value of their type, 65535 for 16 bit.")
    low, high = (bound.item() for bound in image.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise FusionError(f"The {what} images contain NaN or infinite values: mend what produced them.")
    # A little over the edge is rounding of an earlier step; much is another scale.
    if low < -1e-3 or high > 1 + 1e-3:
        raise FusionError(f"The {what} images are float, so their values must lie in 0..1, but reach from {low:.4g} to "
                          f"{high:.4g}: divide by the largest value of their type, or convert to uint8.")
    return (image.float() * 255).round().clamp(0, 255)


def _shape(image):
    return "x".join(map(str, image.shape))
