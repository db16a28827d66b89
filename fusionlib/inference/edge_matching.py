"""How well the edges of an infrared and a visible image agree, under any placement of the infrared one.

Hot and bright are two things, so the images are compared by the directions of their edges alone: an edge counts the
same whichever of its sides is brighter, as in the normalised gradient fields of Haber and Modersitzki (Intensity
gradient based registration and fusion of multi-modal images, MICCAI 2006). As complex numbers of twice the angle, the
directions are compared at all shifts at once by a Fourier transform; a grid of turns and scales finds the rest.

Planes are float32 arrays [H,W]. Matrices [3,3] take places (x, y, 1), in pixels from the centre of the first one on,
from one plane to another.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import scipy.fft

SIDE = 256  # pixels of the longer side on which placements are compared
REACH = 0.25  # furthest shift that is searched, as a share of the width


@dataclass(frozen=True)
class Placement:
    """Where the infrared plane may belong: first into the middle, turned (degrees anticlockwise) and scaled there, then
    shifted; all in `matrix`. `agreement` is in standard deviations over all shifts."""

    agreement: float
    turn: float
    scale: float
    matrix: np.ndarray


class Comparison:
    """Agreement of an infrared and a visible plane, reduced to `SIDE`; the infrared one may be of another size."""

    def __init__(self, ir, visible):
        factor = min(1.0, SIDE / max(visible.shape))
        (self.ir, _), (self.visible, self.reduction) = resized(ir, factor), resized(visible, factor)
        height, width = self.visible.shape
        self.reach = min(int(REACH * width), height // 2)
        self.padded = [scipy.fft.next_fast_len(n + self.reach) for n in (height, width)]
        field = directions(self.visible) * taper(self.visible.shape)
        self.spectrum, self.norm = scipy.fft.fft2(field, self.padded), np.linalg.norm(field)
        self.present = self.surface(_similarity(self.ir.shape, self.visible.shape))
        self.deviation = self.present.std() + 1e-12

    def surface(self, matrix) -> np.ndarray:
        """Cosine of the edges after `matrix` (of the reduced planes) and shifts -reach..reach, as [down, right]."""
        field = moved_directions(self.ir, matrix, self.visible.shape) * taper(self.visible.shape)
        product = scipy.fft.ifft2(scipy.fft.fft2(field, self.padded).conj() * self.spectrum).real
        shifts = np.arange(-self.reach, self.reach + 1)
        return product[np.ix_(shifts, shifts)] / (np.linalg.norm(field) * self.norm + 1e-12)

    def near(self, share: float) -> float:
        """Agreement of the planes as they are, give or take a share of the width."""
        y, x = np.ogrid[-self.reach : self.reach + 1, -self.reach : self.reach + 1]
        return self.present[np.hypot(x, y) <= max(share * self.visible.shape[1], 1)].max() / self.deviation

    def agreement(self, matrix) -> float:
        """Agreement under a matrix of the whole planes, give or take one pixel of the reduced ones."""
        surface = self.surface(self.reduction @ matrix @ np.linalg.inv(self.reduction))
        return surface[self.reach - 1 : self.reach + 2, self.reach - 1 : self.reach + 2].max() / self.deviation

    def search(self, turns, scales) -> Placement:
        """The best placement of a grid, and of half its steps around that; with a matrix of the whole planes."""
        best = max((self._place(turn, scale) for turn in turns for scale in scales), key=_by_agreement)
        turn, scale = (turns[1] - turns[0]) / 2, math.sqrt(scales[1] / scales[0])
        around = [(best.turn + i * turn, best.scale * scale**j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
        best = max([best, *(self._place(*place) for place in around)], key=_by_agreement)
        matrix = np.linalg.inv(self.reduction) @ best.matrix @ self.reduction
        return Placement(best.agreement, best.turn, best.scale, matrix)

    def _place(self, turn, scale):
        matrix = _similarity(self.ir.shape, self.visible.shape, turn, scale)
        surface = self.surface(matrix)
        row, column = np.unravel_index(surface.argmax(), surface.shape)
        shift = _shift(column - self.reach, row - self.reach)
        return Placement(surface[row, column] / self.deviation, float(turn), float(scale), shift @ matrix)


def _by_agreement(placement):
    return placement.agreement


def directions(plane) -> np.ndarray:
    """Complex [H,W]: the direction of the gradient as twice its angle, and as length, 0..1, how clear it is."""
    plane = cv2.GaussianBlur(plane, (0, 0), 1.5)
    x, y = cv2.Scharr(plane, cv2.CV_32F, 1, 0), cv2.Scharr(plane, cv2.CV_32F, 0, 1)
    square = x * x + y * y
    return (((x * x - y * y) + 2j * (x * y)) / (square + np.sqrt(square).mean() ** 2 + 1e-12)).astype(np.complex64)


def moved_directions(plane, matrix, shape) -> np.ndarray:
    """The edges of a plane after `matrix`, [H,W] of `shape`, fading towards the end of the plane."""
    return directions(warp(plane, matrix, shape)) * cv2.warpPerspective(taper(plane.shape), matrix, shape[::-1])


def taper(shape) -> np.ndarray:
    """1 inside, falling to 0 over the outer 6 %, where the end of an image looks like an edge."""
    ramps = [np.minimum(1, (np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5) / (0.06 * n)) for n in shape]
    return np.outer(*ramps).astype(np.float32)


def match(source, target, reach: int, half: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the edges `source` [H,W], and where within `reach` pixels `target` has what lies around them.

    Returns:
        Places (x, y) in the one and in the other, float32 [N,2] each, N of at most 300, the second to subpixels.
    """
    corners = cv2.goodFeaturesToTrack(np.abs(source), 300, 0.01, 10)
    if corners is None:
        return np.empty((0, 2), np.float32), np.empty((0, 2), np.float32)
    corners, margin = corners[:, 0].round().astype(int), half + reach
    at, source, target = corners + margin, np.pad(source, margin), np.pad(target, margin)
    side = [scipy.fft.next_fast_len(2 * margin + 1)] * 2
    patch = _cut(source, at, half)
    spectra = scipy.fft.fft2(_cut(target, at, margin), side) * scipy.fft.fft2(patch, side).conj()
    surface = scipy.fft.ifft2(spectra).real[:, : 2 * reach + 1, : 2 * reach + 1]
    power = cv2.boxFilter(np.abs(target) ** 2, -1, (2 * half + 1, 2 * half + 1), normalize=False)
    surface /= np.linalg.norm(patch, axis=(1, 2), keepdims=True) * np.sqrt(_cut(power, at, reach) + 0.01) + 1e-9
    row, column = np.unravel_index(surface.reshape(len(at), -1).argmax(1), surface.shape[1:])
    # A maximum at the rim has its summit elsewhere; a low one is chance.
    inside = (np.abs(row - reach) < reach) & (np.abs(column - reach) < reach)
    kept = np.flatnonzero(inside & (surface.max((1, 2)) > 3 * surface.std((1, 2))))
    row, column = row[kept], column[kept]
    x = column - reach + _summit(*(surface[kept, row, column + i] for i in (-1, 0, 1)))
    y = row - reach + _summit(*(surface[kept, row + i, column] for i in (-1, 0, 1)))
    return corners[kept].astype(np.float32), (corners[kept] + np.stack([x, y], 1)).astype(np.float32)


def _cut(plane, at, half):
    """Squares of 2 half + 1 pixels around the places `at` [N,2] (x, y)."""
    offsets = np.arange(-half, half + 1)
    return plane[at[:, 1, None, None] + offsets[:, None], at[:, 0, None, None] + offsets]


def _summit(before, peak, after):
    """Where between -0.5 and 0.5 the parabola through three values has its summit."""
    return (before - after) / (2 * (before - 2 * peak + after) - 1e-9)


def resized(plane, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """A plane scaled by a factor, to whole pixels, and the matrix of that."""
    size = [max(round(n * factor), 1) for n in plane.shape[::-1]]
    x, y = size[0] / plane.shape[1], size[1] / plane.shape[0]
    matrix = np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])
    return cv2.resize(plane, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR), matrix


def warp(plane, matrix, shape) -> np.ndarray:
    """A plane after `matrix`, [H,W] of `shape`; its border is repeated outwards."""
    return cv2.warpPerspective(plane, matrix, shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def apply(matrix, places) -> np.ndarray:
    """Places [N,2] after a matrix."""
    moved = np.column_stack([places, np.ones(len(places))]) @ matrix.T
    return moved[:, :2] / moved[:, 2:]


def _shift(x, y):
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], float)


def _similarity(source, target, turn=0.0, scale=1.0):
    """From planes of one shape into the middle of another, turned anticlockwise (degrees) and scaled there."""
    (h, w), (height, width) = source, target
    turned = np.vstack([cv2.getRotationMatrix2D(((w - 1) / 2, (h - 1) / 2), turn, scale), [0, 0, 1]])
    return _shift((width - w) / 2, (height - h) / 2) @ turned
