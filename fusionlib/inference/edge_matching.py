"""Agreement of the edges of an infrared and a visible image under any placement of the infrared one.

Brightness means different things in the two images, so they are compared by the directions of their edges alone: an
edge counts the same whichever of its sides is brighter, as in the normalised gradient fields of Haber and Modersitzki
(Intensity gradient based registration and fusion of multi-modal images, MICCAI 2006). Directions are complex numbers of
twice the angle, compared at all shifts at once by a Fourier transform; a grid of angles and scales covers the rest.

Planes are float32 arrays [H,W]. Matrices [3,3] map points (x, y, 1), in pixels from the centre of the first one,
between planes.
"""

import functools
import math
from operator import attrgetter
from typing import NamedTuple

import cv2
import numpy as np
import torch  # for its Fourier transforms: importing those of SciPy takes a third of a second

SIDE = 256  # pixels of the longer side on which placements are compared
REACH = 0.25  # largest shift that is searched, as a fraction of the width


class Placement(NamedTuple):
    """A placement of the infrared plane: centred on the visible one, rotated (degrees anticlockwise) and scaled there,
    then shifted; all in `matrix`. `agreement` is in standard deviations over all shifts."""

    agreement: float
    angle: float
    scale: float
    matrix: np.ndarray


class Comparison:
    """Agreement of an infrared and a visible plane, reduced to `side`; the infrared one may be of another size."""

    def __init__(self, ir, visible, side: int = SIDE):
        factor = min(1.0, side / max(visible.shape))
        (self.ir, _), (self.visible, self.reduction) = resized(ir, factor), resized(visible, factor)
        height, width = self.visible.shape
        self.reach = min(int(REACH * width), height // 2)
        self.padded = [cv2.getOptimalDFTSize(n + self.reach) for n in (height, width)]
        field = directions(self.visible) * taper(self.visible.shape)
        self.spectrum, self.norm = _fft2(field, self.padded), np.linalg.norm(field)
        self.unmoved = self.surface(_similarity(self.ir.shape, self.visible.shape))
        self.deviation = self.unmoved.std() + 1e-12

    def surface(self, matrix) -> np.ndarray:
        """Cosine of the edges after `matrix` (of the reduced planes) and shifts -reach..reach, as [down, right]."""
        field = warped_directions(self.ir, matrix, self.visible.shape) * taper(self.visible.shape)
        product = _ifft2(_fft2(field, self.padded).conj() * self.spectrum).real
        shifts = np.arange(-self.reach, self.reach + 1)
        return product[np.ix_(shifts, shifts)] / (np.linalg.norm(field) * self.norm + 1e-12)

    def unmoved_agreement(self, tolerance: float) -> float:
        """Agreement of the planes as they are, at the best shift of up to a fraction of the width."""
        y, x = np.ogrid[-self.reach : self.reach + 1, -self.reach : self.reach + 1]
        return self.unmoved[np.hypot(x, y) <= max(tolerance * self.visible.shape[1], 1)].max() / self.deviation

    def agreement(self, matrix) -> float:
        """Agreement under a matrix of the whole planes, at the best shift of up to one pixel of the reduced ones."""
        surface = self.surface(self.reduction @ matrix @ np.linalg.inv(self.reduction))
        return surface[self.reach - 1 : self.reach + 2, self.reach - 1 : self.reach + 2].max() / self.deviation

    def best(self, angles, scales) -> Placement:
        """The best placement of a grid; its matrix is of the reduced planes."""
        return max((self._place(angle, scale) for angle in angles for scale in scales), key=attrgetter("agreement"))

    def search(self, angles, scales) -> Placement:
        """The best placement of a grid, and of half its steps around that; with a matrix of the whole planes."""
        best = self.best(angles, scales)
        angle, scale = (angles[1] - angles[0]) / 2, math.sqrt(scales[1] / scales[0])
        around = [self._place(best.angle + i * angle, best.scale * scale**j)
                  for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
        best = max([best, *around], key=attrgetter("agreement"))
        return best._replace(matrix=np.linalg.inv(self.reduction) @ best.matrix @ self.reduction)

    def _place(self, angle, scale):
        matrix = _similarity(self.ir.shape, self.visible.shape, angle, scale)
        surface = self.surface(matrix)
        row, column = np.unravel_index(surface.argmax(), surface.shape)
        matrix[:2, 2] += column - self.reach, row - self.reach
        return Placement(surface[row, column] / self.deviation, float(angle), float(scale), matrix)


def directions(plane) -> np.ndarray:
    """Complex [H,W]: twice the angle of the gradient as argument, and its distinctness, 0..1, as absolute value."""
    plane = cv2.GaussianBlur(plane, (0, 0), 1.5)
    x, y = cv2.Scharr(plane, cv2.CV_32F, 1, 0), cv2.Scharr(plane, cv2.CV_32F, 0, 1)
    square = x * x + y * y
    weight = 1 / (square + (np.sqrt(square).mean() ** 2 + 1e-12))
    field = np.empty(plane.shape, np.complex64)  # by parts, since NumPy divides complex numbers slowly
    field.real, field.imag = (x - y) * (x + y) * weight, 2 * x * y * weight
    return field


def warped_directions(plane, matrix, shape) -> np.ndarray:
    """`directions` of a plane warped by `matrix`, [H,W] of `shape`, fading towards the border of the plane."""
    return directions(warp(plane, matrix, shape)) * cv2.warpPerspective(taper(plane.shape), matrix, shape[::-1])


@functools.lru_cache(8)
def taper(shape) -> np.ndarray:
    """Window [H,W]: 1 inside, falling to 0 over the outer 6 %, where the border of an image looks like an edge."""
    ramps = [np.minimum(1, (np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5) / (0.06 * n)) for n in shape]
    return np.outer(*ramps).astype(np.float32)


def match(source, target, reach: int, half: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Match corners of `source`, as of `directions`, within `reach` pixels in `target` by the patches around them.

    Returns:
        Points (x, y) in source and target, float32 [N,2] each, N of at most 300, in the target to subpixels.
    """
    corners = cv2.goodFeaturesToTrack(np.abs(source), 300, 0.01, 10)
    if corners is None:
        return np.empty((0, 2), np.float32), np.empty((0, 2), np.float32)
    corners, margin = corners[:, 0].round().astype(int), half + reach
    centres, source, target = corners + margin, np.pad(source, margin), np.pad(target, margin)
    side = [cv2.getOptimalDFTSize(2 * margin + 1)] * 2
    patch = _patches(source, centres, half)
    spectra = _fft2(_patches(target, centres, margin), side) * _fft2(patch, side).conj()
    surface = _ifft2(spectra).real[:, : 2 * reach + 1, : 2 * reach + 1]
    power = cv2.boxFilter(np.abs(target) ** 2, -1, (2 * half + 1, 2 * half + 1), normalize=False)
    power = np.sqrt(_patches(power, centres, reach) + 0.01)
    surface /= np.linalg.norm(patch, axis=(1, 2), keepdims=True) * power + 1e-9
    row, column = np.unravel_index(surface.reshape(len(corners), -1).argmax(1), surface.shape[1:])
    # A maximum on the rim has its peak elsewhere; a low one is chance.
    inside = (np.abs(row - reach) < reach) & (np.abs(column - reach) < reach)
    clear = np.flatnonzero(inside & (surface.max((1, 2)) > 3 * surface.std((1, 2))))
    row, column, corners = row[clear], column[clear], corners[clear]
    x = column - reach + _peak(*(surface[clear, row, column + i] for i in (-1, 0, 1)))
    y = row - reach + _peak(*(surface[clear, row + i, column] for i in (-1, 0, 1)))
    return corners.astype(np.float32), (corners + np.stack([x, y], 1)).astype(np.float32)


def _fft2(field, size):
    return torch.fft.fft2(torch.from_numpy(field), size).numpy()


def _ifft2(spectrum):
    return torch.fft.ifft2(torch.from_numpy(spectrum)).numpy()


def _patches(plane, centres, half):
    """Squares of 2 half + 1 pixels around points [N,2] (x, y)."""
    offsets = np.arange(-half, half + 1)
    return plane[centres[:, 1, None, None] + offsets[:, None], centres[:, 0, None, None] + offsets]


def _peak(before, peak, after):
    """The position of the peak, -0.5..0.5, of the parabola through three values."""
    return (before - after) / (2 * (before - 2 * peak + after) - 1e-9)


def resized(plane, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """A plane scaled by a factor, rounded to whole pixels, and the matrix of the scaling."""
    size = [max(round(n * factor), 1) for n in plane.shape[::-1]]
    x, y = size[0] / plane.shape[1], size[1] / plane.shape[0]
    matrix = np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])
    return cv2.resize(plane, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR), matrix


def warp(plane, matrix, shape) -> np.ndarray:
    """A plane warped by `matrix`, [H,W] of `shape`; its border is repeated outwards."""
    return cv2.warpPerspective(plane, matrix, shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def transform(matrix, points) -> np.ndarray:
    """Points [N,2] mapped by a matrix."""
    mapped = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    return mapped[:, :2] / mapped[:, 2:]


def _similarity(source, target, angle=0.0, scale=1.0):
    """From planes of one shape, rotated anticlockwise (degrees) and scaled, to the centre of planes of another."""
    (h, w), (height, width) = source, target
    matrix = np.vstack([cv2.getRotationMatrix2D(((w - 1) / 2, (h - 1) / 2), angle, scale), [0, 0, 1]])
    matrix[:2, 2] += (width - w) / 2, (height - h) / 2
    return matrix
