"""The street of the synthetic scenes: sky, houses and ground."""

from dataclasses import dataclass

import cv2
import numpy as np

from fusionlib.data.synthetic.canvas import CIRCLE, EMPTY, Canvas, rectangles
from fusionlib.data.synthetic.light import grain, shade

WALLS = ((.42, .38, .32), (.35, .2, .14), (.5, .46, .4), (.28, .3, .32), (.45, .32, .2), (.22, .13, .1), (.55, .5, .36),
         (.32, .36, .3))
SIGNS = ((.5, .05, .05), (.05, .15, .45), (.05, .3, .12), (.55, .4, .06), (.3, .06, .3), (.6, .58, .55))
WARM, COOL = np.array([1.0, .72, .38]), np.array([.75, .9, 1.0])


@dataclass(frozen=True)
class House:
    """One front of a row: it starts at `origin` and runs along u (`across`) or v; lengths in metres."""

    origin: tuple[float, float]
    across: bool
    length: float
    height: float
    rgb: tuple
    shop: bool
    open: bool       # the shop's windows are lit
    lit: float       # share of lit windows
    glow: np.ndarray  # rgb of its lights
    sign: tuple
    degrees: float   # above the air
    pitch: float     # metres from window to window

    def faces(self, s0, s1, y0, y1):
        """World polygons [K, 4, 3] of rectangles on the front; `s` runs along it."""
        return rectangles(s0, s1, y0, y1, (0 if self.across else 1, 2), (*self.origin, 0))


@dataclass(frozen=True)
class Street:
    """Layout of a street: half widths of road and street, length, houses, and the air's temperature."""

    road: float
    wall: float
    end: float
    houses: list[House]
    air: float
    night: bool
    crossing: float
    road_rgb: float
    walk_rgb: tuple
    heat: float      # degrees that the full sun adds to the ground
    overcast: bool


def random_street(rng, night) -> Street:
    """A random street."""
    road, end = rng.uniform(3.7, 5.4), rng.uniform(38, 62)
    wall = road + rng.uniform(2.6, 4.5)
    sun = not night and rng.random() < 0.65
    houses, lit = [], rng.uniform(0.12, 0.4) if night else 0.03
    tallest = rng.uniform(9, 17)
    for origin, across, total in (((-wall, end), True, 2 * wall), ((-wall, -20), False, end + 20),
                                  ((wall, -20), False, end + 20)):
        at = 0.0
        while at < total - 0.1:
            length = rng.uniform(7, 15)
            length = length if at + length < total - 6 else total - at
            start = (origin[0] + at, origin[1]) if across else (origin[0], origin[1] + at)
            shop = rng.random() < 0.45
            glow = (WARM if rng.random() < 0.6 else COOL) * rng.uniform(0.5, 1.3)
            houses.append(House(
                start, across, length, tallest * rng.uniform(0.5, 1), WALLS[rng.integers(len(WALLS))], shop,
                shop and night and rng.random() < 0.6, lit, glow, SIGNS[rng.integers(len(SIGNS))],
                rng.uniform(-0.5, 2.0), rng.uniform(1.8, 3.2)))
            at += length
    walk = rng.uniform(0.16, 0.3)
    return Street(road, wall, end, houses, rng.uniform(0, 16) if night else rng.uniform(14, 28), night,
                  rng.uniform(9, 26) if rng.random() < 0.5 else -100.0, rng.uniform(0.06, 0.11),
                  (walk, walk * 0.95, walk * 0.86), rng.uniform(5, 13) if sun else 0.0, not night and not sun)


def draw_street(canvas: Canvas, street: Street, rng, shadows):
    """Draw sky, ground and houses with their light; `shadows` as for `shade`."""
    houses = sorted(street.houses, key=lambda h: -canvas.camera.view(
        h.origin[0] + h.across * h.length / 2, h.origin[1] + (not h.across) * h.length / 2)[1] - 100 * h.across)
    _draw_ground(canvas, street, rng)
    glowing = []
    for house in houses:
        if len(canvas.camera.project(house.faces(0, house.length, 0, house.height))):
            glowing += _draw_house(canvas, house, street, rng)
    shade(canvas, street, shadows)
    _draw_sky(canvas, street, rng)
    for faces, rgb, degrees in glowing:
        canvas.fill_faces(faces, rgb, degrees)


def _draw_sky(canvas, street, rng):
    """Fill unpainted pixels with sky: cold, colder between the clouds."""
    empty = canvas.image[..., 3] < EMPTY / 2
    if not (rows := int(empty.any(1).sum())):
        return
    shape = (empty.shape[1] // 2, rows // 2 + 1)
    height = np.linspace(0, 1, shape[1], dtype=np.float32)[:, None, None]
    if street.night:
        zenith, horizon, cold = (.004, .005, .01), np.array([.03, .022, .016]) * rng.uniform(0.4, 1.5), 14
    elif street.overcast:
        zenith, horizon, cold = (.75, .78, .82), np.array([.85, .86, .86]), 8
    else:
        zenith, horizon, cold = (.22, .42, .8), np.array([.75, .82, .9]), 22
    zenith, horizon = np.float32([*zenith, street.air - cold]), np.float32([*horizon, street.air - 0.4 * cold])
    shift = rng.integers(256)
    cloud = cv2.resize(grain()[:96, shift:shift + 256], shape)[..., None]
    cloud = (0.25 + 0.5 * cloud).clip(0, 1) * np.float32(0.2 if street.night else 0.8)
    sky = zenith + (horizon - zenith) * np.sqrt(height)
    sky = cv2.resize(sky + (horizon - sky) * cloud, (empty.shape[1], rows))
    np.copyto(canvas.image[:rows], sky, where=empty[:rows, :, None])


def _draw_ground(canvas, street, rng):
    """Pavement, road, markings, patches and manholes."""
    def lay(u0, u1, v0, v1, rgb, degrees):
        canvas.fill_faces(rectangles(u0, u1, v0, v1, (0, 1), (0, 0, 0)), rgb, degrees)

    road, air, walk = street.road, street.air, np.array(street.walk_rgb)
    warm = air + rng.uniform(0.5, 2.5)
    lay(-street.wall - 1, street.wall + 1, -20, street.end + 1, walk, air + rng.uniform(0, 1.5))
    joints = np.arange(-4, 34, 1.2)
    for side in (-1, 1):
        edges = sorted((side * road, side * street.wall))
        lay(*edges, joints, joints + 0.04, walk * 0.72, air + 0.5)
        lay(side * (road + street.wall) / 2, side * (road + street.wall) / 2 + 0.04, -4, 34, walk * 0.72, air + 0.5)
    lay(-road, road, -20, street.end, street.road_rgb * np.array([1, 1, 1.04]), warm)
    for _ in range(rng.integers(1, 4)):     # patches of newer asphalt
        u, v = rng.uniform(-road, road - 1.5), rng.uniform(3, 30)
        tone = np.full(3, street.road_rgb * rng.uniform(0.6, 0.85))
        lay(u, u + rng.uniform(0.8, 1.5), v, v + rng.uniform(1, 7), tone, warm + rng.uniform(-0.3, 0.5))
    curb = np.array([-road - 0.1, road - 0.1])
    lay(curb, curb + 0.2, -20, street.end, walk * 1.5, warm)
    lay(curb * 0.985, curb * 0.985 + 0.1, -20, street.end, walk * 0.3, warm + 0.4)
    dashes = np.arange(-18, street.end, 6)
    dashes = dashes[np.abs(dashes + 1 - street.crossing) > 4]
    lay(-0.07, 0.07, dashes, dashes + 2.5, (.5, .5, .48), warm)
    stripes = np.arange(-road + 0.4, road - 0.6, 1.0)
    lay(stripes, stripes + 0.5, street.crossing, street.crossing + 3.2, (.55, .55, .53), warm - 0.15)
    for _ in range(rng.integers(0, 3)):     # manholes, some of them warm from below
        u, v = rng.uniform(-road + 0.8, road - 0.8), rng.uniform(5, 22)
        cover = np.pad(CIRCLE * 0.36 + [u, v], ((0, 0), (0, 1)))[[(k, k + 1, 14 - k, 15 - k) for k in range(7)]]
        hot = rng.uniform(6, 14) if rng.random() < 0.5 else rng.uniform(-1, 1)
        canvas.fill_faces(cover, (.05, .048, .045), warm + hot)


def _draw_house(canvas, house, street, rng):
    """Draw one front; returns the faces that shine by themselves, to be drawn after shading: (faces, rgb, degrees)."""
    glowing = []

    def put(rgb, degrees, *rectangle):
        canvas.fill_faces(house.faces(*rectangle), rgb, degrees)

    def glow_at(rgb, degrees, *rectangle):
        glowing.append((house.faces(*rectangle), rgb, degrees))

    rgb, length, height, wall = np.array(house.rgb), house.length, house.height, street.air + house.degrees
    put(rgb, wall, 0, length, 0, height)
    put(rgb * 0.6, wall + 0.3, 0, length, 0, 0.5)
    put(rgb * 0.5, wall - 0.5, 0, 0.12, 0, height)
    put(np.minimum(rgb * 1.25, 0.9), wall - 1, 0, length, height - 0.35, height)
    glow = house.glow * (0.5 if street.night else 0.9)
    glass = np.array([.03, .04, .05]) if street.night else np.array([.1, .13, .16])
    count = max(int(length / house.pitch), 1)
    pitch = length / count
    floors = np.arange(3.4, height - 2.2, 3.0)
    left, low = (grid.ravel() for grid in np.meshgrid((np.arange(count) + 0.5) * pitch, floors))
    lit = rng.random(left.size) < house.lit
    if left.size:
        half = pitch * 0.27
        put(np.minimum(rgb * 1.3, 0.8), wall - 0.4, left - half - 0.12, left + half + 0.12, low + 0.55, low + 2.35)
        put(glass, wall + 1.0, left - half, left + half, low + 0.7, low + 2.25)
        shut = rng.random(left.size) < 0.3
        put(np.array([.4, .38, .34]), wall + 1.5, *(a[shut] for a in (left - half, left + half, low + 1.3, low + 2.25)))
        for windows, tone in ((lit & ~shut, 1.0), (lit & shut, 0.5)):
            x, y = left[windows], low[windows]
            for a, b in ((-half, -0.04), (0.04, half)):
                glow_at(glow * tone, wall + 2.5, x + a, x + b, y + 0.75, y + 2.2)
    if house.shop:
        panes = np.arange(0.5, length - 1.2, 1.7)
        middle, tall = panes + rng.uniform(0.4, 1.1, len(panes)), rng.uniform(1.2, 1.6, len(panes))
        show, tint = (glow_at, glow) if house.open else (put, glass * 4)
        put(np.array(house.sign), wall + 0.5, 0.3, length - 0.3, 2.55, 3.2)
        put(rgb * 0.25, wall + 0.5, 0.4, length - 0.4, 0.4, 2.45)
        show(tint * 0.8, wall + 3 * house.open, panes, panes + 1.5, 0.55, 2.4)
        show(tint * 0.25, wall + 2 * house.open, middle - 0.2, middle + 0.2, 0.55, tall)         # mannequins
        show(tint * 0.25, wall + 2 * house.open, middle - 0.09, middle + 0.09, tall + 0.04, tall + 0.28)
        if house.open:
            glow_at(np.array(house.sign) * 0.8, wall + 2, 0.3, length - 0.3, 2.6, 3.15)
    else:
        door = rng.uniform(0.5, length - 1.8)
        put(np.array(house.sign) * 0.35, wall + 1.2, door, door + 1.0, 0, 2.15)
        low = np.arange(0.9, length - 1.3, pitch)
        low = low[np.abs(low - door) > 1.3]
        put(glass, wall + 0.8, low, low + 0.9, 1.0, 2.3)
    if rng.random() < 0.45:     # the vent of an air conditioner or a boiler
        at, y = rng.uniform(0.5, length - 1), rng.uniform(0.4, 4)
        put((.3, .3, .29), wall + rng.uniform(6, 18), at, at + 0.7, y, y + 0.5)
    return glowing
