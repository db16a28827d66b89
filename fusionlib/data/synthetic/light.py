"""Light of the synthetic scenes: its sources, and how it lights and warms ground and houses."""

from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np

HEADLIGHT = (0.8, 0.76, 0.68)   # rgb irradiance just ahead of a car
STRIP = 32                       # rows


@dataclass
class Light:
    """Irradiance anywhere in the street: sky, sun behind a row of houses, lamps, headlights and shop windows."""

    ambient: np.ndarray                          # rgb
    sun: np.ndarray                              # rgb; black at night and under clouds
    sun_wall: float = 0.0                        # u of the wall that casts the shade
    shade: float = 0.0                           # height of the shade at that wall, metres
    slope: float = 1.0                           # fall of the shade's height per metre away from the wall
    sun_step: tuple[float, float] = (0.0, 0.0)   # ground offset of a shadow per metre of height
    lamps: list = field(default_factory=list)    # (u, v, y, r, g, b)
    beams: list = field(default_factory=list)    # headlights: (u, v, direction along v)
    shops: list = field(default_factory=list)    # (wall u, middle v, half length, r, g, b)

    def sunlit(self, u, y):
        """Share of the sun that reaches a point, 0..1, before the shadows of single objects."""
        if not np.any(self.sun):
            return np.zeros(np.broadcast_shapes(np.shape(u), np.shape(y)), np.float32)
        edge = self.shade - np.abs(u - self.sun_wall) * self.slope
        return np.clip((y - edge) * 4, 0, 1).astype(np.float32)

    def __call__(self, u, v, y):
        """RGB irradiance [3] at a place in the street."""
        return self.daylight(self.sunlit(u, y)) + self.artificial(u, v, y)

    def daylight(self, sunlit):
        """The light of the sky and of a share [...] of the sun, [3, ...]."""
        if not np.any(self.sun):
            return np.float32(self.ambient).reshape(3, *(1,) * sunlit.ndim)
        return _sum(np.stack([np.ones_like(sunlit), sunlit]), [self.ambient, self.sun])

    def artificial(self, u, v, y):
        """The light of lamps, headlights and shop windows, [3, ...]."""
        u, v, y = (np.asarray(a, np.float32) for a in (u, v, y))
        total = np.zeros((3, *np.broadcast_shapes(u.shape, v.shape, y.shape)), np.float32)

        def sources(rows):  # columns of a table of sources, each with axes for the positions
            return np.asarray(rows, np.float32).T.reshape(len(rows[0]), len(rows), *(1,) * (total.ndim - 1))

        if self.lamps:
            lu, lv, ly, *power = sources(self.lamps)
            below = np.maximum(ly - y, 0.05)
            square = (u - lu) ** 2 + (v - lv) ** 2 + below * below
            total += _sum(below / (square * np.sqrt(square)), np.stack(power, 1))
        if self.beams:
            bu, bv, way = sources(self.beams)
            ahead = np.maximum((v - bv) * way, 0)
            across = (u - bu) / (0.9 + 0.22 * ahead)
            fall = ahead / ((1 + ahead) * (1 + ahead * ahead / 81))
            fall = fall * np.exp(-across * across - np.maximum(y - 0.5, 0) * 0.8)
            total += _sum(fall, [HEADLIGHT] * len(fall))
        if self.shops:
            wall, middle, half, *power = sources(self.shops)
            along = np.maximum(np.abs(v - middle) - half, 0)
            total += _sum(np.exp(-np.abs(u - wall) / 2.2 - along / 1.2 - np.maximum(y - 2.5, 0)), np.stack(power, 1))
        return total


def _sum(fall, power):
    """Shares [L, ...] of L sources times their rgb powers [L, 3], summed: [3, ...]."""
    return (np.float32(power).T @ fall.reshape(len(fall), -1)).reshape(3, *fall.shape[1:])


@lru_cache(maxsize=1)
def grain():
    """Fractal noise of all surfaces [1280, 768], repeating every 256, of zero mean and unit deviation."""
    rng = np.random.default_rng(20250)
    tile = np.zeros((256, 256), np.float32)
    for cells in (8, 16, 32, 64, 128, 256):
        octave = np.pad(rng.standard_normal((cells, cells), np.float32), 2, "wrap")
        size = 256 // cells
        wide = cv2.resize(octave, None, fx=size, fy=size, interpolation=cv2.INTER_CUBIC)
        tile += wide[2 * size:-2 * size, 2 * size:-2 * size] * (1 / cells) ** 0.4
    return np.tile(tile / tile.std(), (5, 3))


def shade(canvas, street, shadows):
    """Light, stain and warm the painted surfaces; `shadows` [H, W] is the share of the sun that objects let through."""
    camera = canvas.camera
    height, width = camera.size
    slope = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / camera.focal
    across, along = camera.street(slope, 1.0)
    across = across - camera.u
    with np.errstate(divide="ignore"):
        far = np.stack([(np.sign(across) * street.wall - camera.u) / across, street.end / along])
    far = np.where(far > 0, far, 1e3).min(0).astype(np.float32)    # depth of the house front in each column
    row = (np.arange(height, dtype=np.float32)[:, None] + 0.5 - camera.horizon) / camera.focal
    fine = canvas.image.shape[0] // height
    for top in range(0, height, STRIP):      # strips fit into the processor's cache
        rays = row[top:top + STRIP]
        ground = camera.height / np.maximum(rays, np.float32(1e-3))
        depth = np.minimum(ground, far)
        is_ground = ground < far
        u, v = camera.street(slope * depth, depth)
        y = np.maximum(camera.height - rays * depth, 0)
        unshadowed = np.where(is_ground, shadows[top:top + STRIP], np.float32(1))
        sunlit = canvas.light.sunlit(u, y)
        across, along = (u + 0.6 * y + 15) * 17, (v + 0.8 * y) * 17     # texels
        stain = cv2.remap(grain(), across, along, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        gain = (0.55 + 0.45 * unshadowed) * (1 + 0.1 * stain)
        light = canvas.light.daylight(sunlit * unshadowed)
        if street.night:      # smooth, so half the resolution suffices
            lamps = canvas.light.artificial(u[::2, ::2], v[::2, ::2], y[::2, ::2])
            light = light + np.stack([cv2.resize(band, u.shape[::-1]) for band in lamps])
        warmth = 0.35 * stain + street.heat * sunlit * (0.7 + np.float32(0.3) * is_ground)
        strip = canvas.image[fine * top:fine * (top + STRIP)]
        size = strip.shape[1::-1]
        for band, share in enumerate(light * gain):
            strip[..., band] *= cv2.resize(share, size)
        strip[..., 3] += cv2.resize(warmth, size)
