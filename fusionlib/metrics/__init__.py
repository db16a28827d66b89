"""Fusion metrics as this literature computes them: one module per family, and one table of what each number means.

`METRICS` says of every metric its range, its direction, its source and the convention of evaluation code that it
follows. Numbers of different conventions are not comparable, so every table should name the convention.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from fusionlib.errors import FusionError
from fusionlib.metrics.correlation import scd
from fusionlib.metrics.gradient import average_gradient, q_abf
from fusionlib.metrics.perceptual import q_cv
from fusionlib.metrics.structural import WINDOW, ssim_sum

__all__ = ["METRICS", "PAPER", "Metric", "evaluate"]


@dataclass(frozen=True)
class Metric:
    """One metric: its function of (fused, ir, visible) [B, C, H, W] gray values -> [B, C], and how to read it."""

    function: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    range: tuple[float, float]
    higher_is_better: bool
    reference: str
    convention: str = "vifb"
    min_size: int = 1  # pixels that each side of the image must have


METRICS = {
    "Q_AB/F": Metric(q_abf, (0, 1), True, "Xydeas and Petrović 2000"),
    "Q_CV": Metric(q_cv, (0, math.inf), False, "Chen and Varshney 2007"),
    "SSIM": Metric(ssim_sum, (-2, 2), True, "Wang et al. 2004, sum over both sources", min_size=WINDOW),
    "AG": Metric(average_gradient, (0, math.inf), True, "Cui et al. 2015", min_size=2),
    "SCD": Metric(scd, (-2, 2), True, "Aslantas and Bendes 2015"),
}

#: The five metrics of the paper's tables 1-3 and 5.
PAPER = ("Q_AB/F", "Q_CV", "SSIM", "AG", "SCD")


@torch.no_grad()
def evaluate(fused: torch.Tensor, ir: torch.Tensor, visible: torch.Tensor, names: Iterable[str] = PAPER,
             convention: str = "vifb") -> dict[str, torch.Tensor]:
    """Measure fused images against their sources.

    Args:
        fused, ir, visible: [B, 1 or 3, H, W], uint8, or float 0..1 on any device. Float images are rounded to 8 bits
            first, because evaluation codes read image files and some metrics depend on whole gray values.
        names: keys of `METRICS`.
        convention: "vifb", the rules of the VIFB benchmark (Zhang et al., CVPR Workshops 2020). With colour, the metric
            is the mean over R, G, B of the fused against the visible image and the infrared image, replicated.

    Returns:
        {name: float32 tensor [B]} on the device of `fused`. A metric that is 0/0 for an image (each metric's docstring
        says when) is NaN there.

    Raises:
        FusionError: an unknown metric or convention, or images that do not fit in type, range, shape or size.
    """
    names = tuple(names)
    conventions = sorted({metric.convention for metric in METRICS.values()})
    if convention not in conventions:
        raise FusionError(f"Unknown metric convention {convention!r}: choose one of {', '.join(conventions)}.")
    if unknown := [name for name in names if name not in METRICS]:
        raise FusionError(f"Unknown metric {unknown[0]!r}: choose from {', '.join(METRICS)}.")

    fused = _gray_values(fused, "fused")
    ir, visible = _gray_values(ir, "infrared").to(fused.device), _gray_values(visible, "visible").to(fused.device)
    for other, what in ((ir, "infrared"), (visible, "visible")):
        if (len(other), *other.shape[-2:]) != (len(fused), *fused.shape[-2:]):
            raise FusionError(f"The {what} images are {_shape(other)} and the fused ones {_shape(fused)}, but number, "
                              "height and width must agree: resize the images before measuring them.")
    for name in names:
        if min(fused.shape[-2:]) < METRICS[name].min_size:
            raise FusionError(f"{name} needs images of at least {METRICS[name].min_size} pixels a side, but these are "
                              f"{_shape(fused)}: use larger images or leave it out.")
    return {name: METRICS[name].function(fused, ir, visible).mean(1) for name in names}


def _gray_values(image, what):
    """Check one batch and return it as float32 gray values, whole numbers 0..255."""
    if not isinstance(image, torch.Tensor) or image.ndim != 4 or image.shape[1] not in (1, 3) or not image.numel():
        found = _shape(image) if isinstance(image, torch.Tensor) else type(image).__name__
        raise FusionError(f"The {what} images must be a tensor [B, 1 or 3, H, W] with pixels in it, but are {found}: "
                          "use torch.as_tensor, and image[None] for a single image.")
    if image.dtype == torch.uint8:
        return image.float()
    if not image.is_floating_point():
        raise FusionError(f"The {what} images must be uint8, or float 0..1, but are {image.dtype}: convert them.")
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
