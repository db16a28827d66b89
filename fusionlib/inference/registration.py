"""Registration of an infrared to a visible image, and detection of misaligned pairs.

Both compare the directions of edges, see `fusionlib.inference.edge_matching`.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from fusionlib.data.color import split_luma
from fusionlib.inference import edge_matching as edges
from fusionlib.utils.errors import FusionError

SMALLEST = 32  # pixels of a side: smaller images hold too few edges
FINE = 512  # pixels of the longer side on which an alignment is refined
NEAR = 0.015  # shift, as a fraction of the width, that still counts as the present placement
GROSS = 0.025  # displacement of a corner, as a fraction of the width, from which on it is reported
# In standard deviations of the agreement over all shifts; chosen on 264 real pairs, moved copies and mismatched pairs.
MARGIN = 1.5  # by which another placement must agree better than the present one to be reported
PEAK = 4.5  # agreement of a placement to be reported
# By which it must agree better on images of 128 pixels to be looked for on larger ones. Of 143 real pairs and 429 moved
# copies, that lost 1 of 372 reported placements, which was barely above `MARGIN`.
DOUBT, COARSE = 0.1, 128
WIDE_PEAK = 6.5  # agreement of an accepted alignment; higher, because among more placements chance finds better ones
ANGLES, SCALES = np.linspace(-7.5, 7.5, 7), 1.05 ** np.arange(-3.0, 4)
# `align` may get cameras of different fields of view, and has the time for a larger search.
WIDE_ANGLES, WIDE_SCALES = np.linspace(-15, 15, 13), 1.06 ** np.arange(-8.0, 9)


@dataclass(frozen=True)
class Misalignment:
    """Estimated displacement of an infrared image relative to the visible one.

    `dx`, `dy`: pixels by which its centre is too far right and down; `angle`: degrees by which it is rotated clockwise;
    `scale`: factor by which it is too large; `margin`: by how much the edges agree better once this is undone, in
    standard deviations over all shifts; `gross`: whether it is large enough to matter and unlikely to be chance.
    """

    dx: float = 0.0
    dy: float = 0.0
    angle: float = 0.0
    scale: float = 1.0
    margin: float = 0.0
    gross: bool = False


def misalignment(ir: Tensor, visible: Tensor, thorough: bool = True) -> Misalignment:
    """Estimate the misalignment of infrared [1,H,W] relative to visible [3,H,W], both in 0..1.

    It is found within a quarter of the width, 9 degrees and 18 %, to about 1 % of the width, 1 degree and 2 %. Images
    without edges, or with a side of less than 32 pixels, count as aligned. So do, unless `thorough`, those that line up
    when they are reduced to 128 pixels, which takes a third of the time.

    Raises:
        FusionError: other shapes, different sizes, NaN or infinity.
    """
    ir, visible = _planes(ir, visible)
    height, width = visible.shape
    if ir.shape != visible.shape:
        raise FusionError(f"Expected infrared of {width}x{height} pixels like the visible image, found {ir.shape[1]}x"
                          f"{ir.shape[0]}: align the two first.")
    if min(height, width) < SMALLEST:
        return Misalignment()
    if not thorough:
        comparison = edges.Comparison(ir, visible, COARSE)
        if comparison.best(ANGLES, SCALES).agreement - comparison.unmoved_agreement(NEAR) <= DOUBT:
            return Misalignment()
    comparison = edges.Comparison(ir, visible)
    best = comparison.search(ANGLES, SCALES)
    margin = best.agreement - comparison.unmoved_agreement(NEAR)
    moves = edges.transform(np.linalg.inv(best.matrix), _corners(visible)) - _corners(visible)
    gross = margin >= MARGIN and best.agreement >= PEAK and np.hypot(*moves.T).max() > GROSS * width
    dx, dy = moves.mean(0)  # a similarity moves the centre like the mean of the corners
    return Misalignment(float(dx), float(dy), best.angle, 1 / best.scale, float(margin), bool(gross))


def describe(ir: Tensor, visible: Tensor) -> str | None:
    """A sentence about a misaligned pair, None for an aligned one; arguments and errors as of `misalignment`."""
    found = misalignment(ir, visible, thorough=False)
    if not found.gross:
        return None
    sides = (found.dx, "to the right", "to the left"), (found.dy, "down", "up")
    shifts = [f"{abs(value):.0f} px {minus if value < 0 else plus}" for value, plus, minus in sides if abs(value) >= 1]
    phrases = ["shifted by about " + " and ".join(shifts)] if shifts else []
    if found.angle:
        phrases.append(f"turned by about {abs(found.angle):.0f} degrees {'' if found.angle > 0 else 'anti'}clockwise")
    if found.scale != 1:
        phrases.append(f"about {abs(found.scale - 1):.0%} too {'large' if found.scale > 1 else 'small'}")
    return (f"infrared and visible do not line up: infrared seems {', '.join(phrases)}; "
            'give align="features" or register them first')


def align(ir: Tensor, visible: Tensor, method: str = "features") -> tuple[Tensor, Tensor]:
    """Warp an infrared image [1,h,w] onto the visible one [3,H,W] of the same scene, both in 0..1.

    An infrared image of another size is first scaled to fit into the visible one. A search over shifts of up to a
    quarter of the width, rotations of up to 16 degrees and scales of 0.6 to 1.6 gives the start; `method` refines it to
    an affine map. Beyond the warped infrared image its border is repeated, so that no false edge arises: that is where
    `coverage` is false.

    Args:
        method: "features" matches corners by the directions of the edges around them and fits by RANSAC; "ecc"
            maximises the correlation of the edge maps (Evangelidis and Psarakis, Parametric image alignment using
            enhanced correlation coefficient maximization, PAMI 2008), and fails more often.

    Returns:
        The infrared image [1,H,W], and the matrix [3,3], float64 on the CPU, that maps points (x, y, 1) of the original
        infrared image, in pixels from the centre of the first one, to the visible one.

    Raises:
        FusionError: other shapes, NaN or infinity, an unknown method, or no plausible registration.
    """
    if method not in METHODS:
        raise FusionError(f"Expected align to be one of {', '.join(METHODS)}, found {method!r}.")
    source, target = _planes(ir, visible)
    if min(*source.shape, *target.shape) < SMALLEST:
        raise FusionError(f"Expected images of at least {SMALLEST} pixels a side to align, found {list(ir.shape)} and "
                          f"{list(visible.shape)}: register them first.")
    fitted, fit = edges.resized(source, min(target.shape[0] / source.shape[0], target.shape[1] / source.shape[1]))
    comparison = edges.Comparison(fitted, target)
    start = comparison.search(WIDE_ANGLES, WIDE_SCALES)
    matrix = METHODS[method](fitted, target, start.matrix)
    if matrix is None or not _plausible(matrix, start, comparison, fitted):
        raise FusionError(f"Infrared {list(ir.shape)} and visible {list(visible.shape)} could not be aligned by "
                          f"{method!r}, because too few of their edges agree: try another of {', '.join(METHODS)}, or "
                          "register them first.")
    aligned = edges.warp(fitted, matrix, target.shape)
    return torch.from_numpy(aligned)[None].to(ir.device), torch.from_numpy(matrix @ fit)


def coverage(matrix: Tensor, size: tuple[int, int], target: tuple[int, int], inside: Tensor | None = None) -> Tensor:
    """Where an aligned infrared image really is: bool [1,H,W] of the size `target`, with the matrix of `align`.

    size: (h, w) of the original infrared image. inside: bool [1,h,w], false where it is transparent.
    """
    mask = np.ones(size, np.uint8) if inside is None else inside[0].byte().numpy()
    warped = cv2.warpPerspective(mask, matrix.numpy(), target[::-1], flags=cv2.INTER_NEAREST)
    return torch.from_numpy(warped > 0)[None]


def _plausible(matrix, start, comparison, ir):
    """Whether a refined matrix is near its start, and its edges agree as well as there and more than by chance."""
    moves = edges.transform(matrix, _corners(ir)) - edges.transform(start.matrix, _corners(ir))
    near = np.hypot(*moves.T).max() <= 0.1 * max(ir.shape)
    return near and comparison.agreement(matrix) >= max(WIDE_PEAK, 0.9 * start.agreement)


def _by_ecc(ir, visible, matrix):
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-5)
    for side in (edges.SIDE, FINE):
        factor = min(1.0, side / max(visible.shape))
        (source, _), (target, reduction) = edges.resized(ir, factor), edges.resized(visible, factor)
        back = np.linalg.inv(reduction)
        inverse = np.linalg.inv(reduction @ matrix @ back)[:2].astype(np.float32)  # OpenCV maps target to source
        try:
            _, inverse = cv2.findTransformECC(np.abs(edges.directions(target)), np.abs(edges.directions(source)),
                                              inverse, cv2.MOTION_AFFINE, stop, None, 5)
        except cv2.error:  # OpenCV's way to report that it does not converge
            return None
        matrix = back @ np.linalg.inv(np.vstack([inverse, [0, 0, 1]])) @ reduction
    return matrix


def _by_features(ir, visible, matrix):
    factor = min(1.0, FINE / max(visible.shape))
    (ir, _), (visible, reduction) = edges.resized(ir, factor), edges.resized(visible, factor)
    back = np.linalg.inv(reduction)
    matrix, target = reduction @ matrix @ back, edges.directions(visible) * edges.taper(visible.shape)
    for divisor in (20, 40):  # of the longer side, for the distance within which a corner is searched
        source = edges.warped_directions(ir, matrix, visible.shape)
        points, matched = edges.match(source, target, max(visible.shape) // divisor)
        if len(points) < 12:
            return None
        step, inliers = cv2.estimateAffine2D(points, matched, ransacReprojThreshold=3)
        if step is None or inliers.sum() < 12:
            return None
        matrix = np.vstack([step, [0, 0, 1]]) @ matrix
    return back @ matrix @ reduction


#: Refinements: infrared and visible planes and a start matrix -> a better matrix, or None on failure.
METHODS = {"features": _by_features, "ecc": _by_ecc}


def _planes(ir, visible):
    """Infrared and luma planes of a pair; FusionError for other images."""
    for name, image, channels in (("infrared", ir, 1), ("visible", visible, 3)):
        if image.ndim != 3 or len(image) != channels or not image.is_floating_point():
            raise FusionError(f"Expected a float {name} image [{channels},H,W] in 0..1, found {image.dtype} "
                              f"{list(image.shape)}: load it by fusionlib.data.load.")
        if not image.isfinite().all():
            raise FusionError(f"Expected numbers in 0..1 in the {name} image, found NaN or infinity: replace them.")
    return ir[0].float().cpu().numpy(), split_luma(visible.float().cpu())[0][0].numpy()


def _corners(plane):
    height, width = plane.shape
    return np.array([[x, y] for x in (0, width - 1) for y in (0, height - 1)], float)
