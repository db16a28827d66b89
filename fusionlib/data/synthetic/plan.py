"""Where everything is in an embedded scene: the camera, the light, and what stands on the street."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from fusionlib.data.synthetic import objects as objects
from fusionlib.data.synthetic import people as people
from fusionlib.data.synthetic.canvas import CIRCLE, Camera, Canvas
from fusionlib.data.synthetic.light import Light

# What stands on pavements: size (across, along, up) in metres, colour, chance of being hot.
THINGS = {"bin": ((.5, .5, .95), (.06, .12, .07), .5), "cabinet": ((.8, .4, 1.2), (.3, .32, .3), .6),
          "pillar": ((.55, .4, 1.75), (.3, .3, .35), .7), "bench": ((.5, 1.5, .45), (.2, .1, .05), 0)}
SODIUM, LED = np.array([1.0, .62, .22]), np.array([.88, .96, 1.0])


def camera(rng, street, size):
    """A surveillance camera on a wall or post, or a camera in traffic."""
    height = size[0]
    if rng.random() < 0.7:
        side = int(rng.choice([-1, 1]))
        u = side * rng.uniform(0.3, 0.9) * street.wall
        return Camera(tuple(size), rng.uniform(1.15, 1.6) * height, rng.uniform(0.02, 0.3) * height,
                      rng.uniform(3.0, 5.2), u, -side * rng.uniform(0.0, 0.55))
    return Camera(tuple(size), rng.uniform(1.05, 1.45) * height, rng.uniform(0.34, 0.44) * height,
                  rng.uniform(1.7, 2.6), rng.uniform(-0.7, 0.7) * street.road, rng.uniform(-0.2, 0.2))


def light(rng, street):
    """Sun and sky, or lamps, open shops and what is left of the sky's glow; lamps stand in the street by day too."""
    if street.night:
        light = Light(np.array([.7, .8, 1.2]) * rng.uniform(0.002, 0.014), np.zeros(3))
        light.shops += [(h.origin[0], h.origin[1] + h.length / 2, h.length / 2, *(0.16 * h.glow))
                        for h in street.houses if h.open and not h.across]
    else:
        side, slope = int(rng.choice([-1, 1])), rng.uniform(0.7, 1.6)
        sun = np.array([1.0, .93, .8]) * rng.uniform(0.8, 1.1) * (not street.overcast)
        light = Light(np.full(3, .62) if street.overcast else np.array([.3, .34, .4]), sun, side * street.wall,
                      rng.uniform(2, 10), slope, (-side / slope, rng.uniform(-0.7, 0.7)))
    power = rng.uniform(10, 26) * (SODIUM if rng.random() < 0.5 else LED) * street.night
    v, side = rng.uniform(1, 11), rng.choice([-1, 1])
    while v < street.end - 3:
        light.lamps.append((side * (street.road - 0.6), v, rng.uniform(5, 7), *(power * (rng.random() < 0.8))))
        v, side = v + rng.uniform(10, 19), side if rng.random() < 0.4 else -side
    return light


@dataclass(frozen=True)
class Item:
    """Something to be drawn at its depth; `person` numbers pedestrians from 1 on."""

    depth: float
    draw: Callable[[Canvas], None]
    person: int = 0
    framed: float = 1.0     # share of its extent inside the picture


class Scenery:
    """Collects what stands on the street, keeps it apart, and notes the shadows it casts."""

    def __init__(self, rng, street, camera, light):
        self.rng, self.street, self.camera, self.light = rng, street, camera, light
        self.items: list[Item] = []
        self.taken = [(1e3, 1e3, 0.0, 0.0)]     # u, v and half extents of what stands there; the first is far away
        self.shadows = []                       # image polygons
        self._cars()
        self._furniture()
        self._crowd()

    def _stand(self, u, v, parts, half=(0.3, 0.3), **more):
        """Put something upright at (u, v); it casts a shadow or, without sun, stands on a dark patch."""
        depth = self.camera.view(u, v)[1]
        if depth < 2.5:
            return
        draw = partial(Canvas.board, u=u, v=v, parts=parts, person=more.get("person", 0))
        self.items.append(Item(depth, draw, **more))
        self.taken.append((u, v, *half))
        if not np.any(self.light.sun):
            foot = np.concatenate([CIRCLE * half + [u, v], np.zeros((16, 1))], 1)
            self.shadows.extend(self.camera.project(foot[None]))
        elif self.light.sunlit(u, 0.0) > 0.5:
            outlines = [part.outline for part in parts if part.outline.ndim == 2]
            self.shadows.extend(objects.shadow(self.camera, self.light, u, v, outlines))

    def _free(self, u, v, half=0.3):
        """Whether nothing stands at (u, v), which may be arrays."""
        a, b, c, d = np.array(self.taken).T[..., None]
        return ((np.abs(u - a) > half + c) | (np.abs(v - b) > half + d)).all(0)

    def _cars(self):
        """Parked cars along both curbs, driving ones in both lanes."""
        rng, street = self.rng, self.street
        for side, lane in ((-1, "park"), (1, "park"), (-1, "drive"), (1, "drive")):
            parked = lane == "park"
            v, busy = rng.uniform(4, 14), rng.uniform(0.1, 0.6) if parked else 0.3
            u = side * (street.road - 1.05 if parked else 0.38 * street.road)
            while v < min(street.end - 6, 48):
                if rng.random() < busy and self.camera.view(u, v)[1] > 6 and not -4 < v - street.crossing < 5:
                    way = side if rng.random() < 0.9 or not parked else -side
                    it = objects.Car(u, v if way > 0 else v + 4.5, int(way), bool(rng.random() < 0.25),
                                     objects.PAINTS[rng.integers(len(objects.PAINTS))], not parked,
                                     rng.uniform(8, 18) if not parked else rng.choice([0.3, 0.3, 5]))
                    self._car(it)
                v += rng.uniform(5.3, 9) if parked else rng.uniform(14, 30)

    def _car(self, it):
        """Put a car into the street, with its shadow and, at night, its headlights."""
        middle = it.point(0.5, 0, 0)
        if not self._free(middle[0], middle[1], 0.6):
            return
        depth = self.camera.view(middle[0], middle[1])[1]
        self.items.append(Item(depth, partial(objects.car, it=it, air=self.street.air)))
        self.taken.append((middle[0], middle[1], 1.2, 2.9))
        self.shadows.extend(objects.car_shadow(self.camera, self.light, it))
        if it.driving and self.street.night:
            front = it.point(1, 0, 0)
            self.light.beams.append((front[0], front[1], it.way))

    def _furniture(self):
        """Lamps; trees or bollards along the curbs; a few things on the pavement."""
        rng, street, air = self.rng, self.street, self.street.air
        for u, v, y, *power in self.light.lamps:
            post = u + 1.2 * np.sign(u)
            arm = -1.2 * np.sign(u) * np.cos(self.camera.yaw)
            self._stand(post, v, objects.lamp(y, arm, np.array(power), air), (0.1, 0.1))
        for side in (-1, 1):
            edge = side * (street.road + 0.55)
            if rng.random() < 0.5:
                for v in np.arange(rng.uniform(8, 14), street.end - 4, rng.uniform(7, 12)):
                    if self._free(edge, v, 0.6):
                        self._stand(edge, v, objects.tree(rng.uniform(4, 6.5), air, rng))
            elif rng.random() < 0.6:
                for v in np.arange(rng.uniform(3, 5), 30, rng.uniform(1.6, 3)):
                    if self._free(edge, v):
                        self._stand(edge, v, objects.bollard(air), (0.12, 0.12))
        for kind in rng.choice(["bin", "cabinet", "pillar", "sign", "sign", "dog", "bench"], rng.integers(2, 6)):
            self._thing(kind)

    def _thing(self, kind):
        """One thing on the pavement; some are as warm as people, and some as tall."""
        rng, air = self.rng, self.street.air
        spot = self._spot(road=0.0, tallest=0.35)
        if spot is None:
            return
        u, v = spot
        if kind in ("sign", "dog"):
            self._stand(u, v, objects.sign(air, rng) if kind == "sign" else people.dog(rng, air), (0.15, 0.15))
            return
        size, rgb, hot = THINGS[kind]
        degrees = air + (rng.uniform(4, 16) if rng.random() < hot else 0.5)
        self.items.append(Item(self.camera.view(u, v)[1],
                                partial(objects.block, u=u, v=v, size=size, rgb=rgb, degrees=degrees)))
        self.taken.append((u, v, size[0] / 2, size[1] / 2))

    def _spot(self, road=0.25, tallest=0.52):
        """A free place in view, even in the logarithm of a person's height in the picture; None if there is no room."""
        rng, camera, street = self.rng, self.camera, self.street
        height, width = camera.size
        tries = 60
        depth = camera.focal * 1.7 / (height * np.exp(rng.uniform(np.log(0.047), np.log(tallest), tries)))
        u, v = camera.street(rng.uniform(-0.47, 0.47, tries) * width * depth / camera.focal, depth)
        good = (np.abs(u) < street.wall - 0.4) & (v < street.end - 1)
        good &= camera.horizon + camera.focal * camera.height / depth < 1.02 * height
        walkable = (np.abs(u) > street.road) | (rng.random(tries) < road)
        good &= walkable | (road > 0) & (np.abs(v - street.crossing - 1.6) < 1.6)
        good &= self._free(u, v)
        k = int(good.argmax())
        return (float(u[k]), float(v[k])) if good[k] else None

    def _crowd(self):
        """Pedestrians, alone or in groups that walk together."""
        rng = self.rng
        wanted = rng.integers(2, 9) if rng.random() < 0.97 else 0
        rain, number = rng.random() < 0.12, 0
        while number < wanted:
            spot = self._spot()
            if spot is None:
                return
            together = min(1 + (rng.random() < 0.3) + (rng.random() < 0.12), wanted - number)
            along = rng.choice([0, np.pi]) + rng.normal(0, 0.35) - self.camera.yaw
            heading = along if rng.random() < 0.6 else rng.uniform(0, 2 * np.pi)
            right, depth = self.camera.view(*spot)
            for k in range(together):
                u, v = self.camera.street(right + 0.55 * k, depth + rng.uniform(-0.3, 0.3) * (k > 0))
                number += 1
                if abs(u) < self.street.wall - 0.3 and self._free(u, v, 0.05):
                    self._person(number, u, v, heading + rng.normal(0, 0.1), rain and rng.random() < 0.6)

    def _person(self, number, u, v, heading, umbrella):
        """One pedestrian. Those in cold clothes keep to the light, so that one modality is left to see them in."""
        rng, street, camera = self.rng, self.street, self.camera
        bright_here = not street.night or self.light(u, v, 1.0).max() > 0.2
        cold = rng.random() < (0.56 if bright_here else 0.03)
        bright = rng.random() < (0.95 if cold else 0.5 if not street.night else 0.3)
        who = people.look(rng, bright, cold, heading, umbrella)
        parts = people.figure(who, street.air + 0.25 * street.heat * self.light.sunlit(u, 1.0))
        body = np.concatenate([part.outline for part in parts if part.body])
        right, depth = camera.view(u, v)
        corners = camera.pixels(right + body[:, 0], np.full(len(body), depth), body[:, 1])
        low, high = corners.min(0), corners.max(0)
        framed = np.prod((np.minimum(high, camera.size[::-1]) - np.maximum(low, 0)).clip(0) / (high - low))
        self._stand(u, v, parts, person=number, framed=framed)
