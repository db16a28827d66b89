"""Random layout of a synthetic scene: the camera, the light, and the objects and people in the street."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from fusionlib.data.synthetic import objects, people
from fusionlib.data.synthetic.canvas import CIRCLE, Camera, Canvas
from fusionlib.data.synthetic.light import Light

# Boxes on the pavement: size (across, along, up) in metres, colour, probability of being hot.
BOXES = {"bin": ((.5, .5, .95), (.06, .12, .07), .5), "cabinet": ((.8, .4, 1.2), (.3, .32, .3), .6),
         "pillar": ((.55, .4, 1.75), (.3, .3, .35), .7), "bench": ((.5, 1.5, .45), (.2, .1, .05), 0)}
SODIUM, LED = np.array([1.0, .62, .22]), np.array([.88, .96, 1.0])


def random_camera(rng, street, size):
    """A surveillance camera on a wall or post, or a camera on a vehicle."""
    height = size[0]
    if rng.random() < 0.7:
        side = int(rng.choice([-1, 1]))
        u = side * rng.uniform(0.3, 0.9) * street.wall
        return Camera(tuple(size), rng.uniform(1.15, 1.6) * height, rng.uniform(0.02, 0.3) * height,
                      rng.uniform(3.0, 5.2), u, -side * rng.uniform(0.0, 0.55))
    return Camera(tuple(size), rng.uniform(1.05, 1.45) * height, rng.uniform(0.34, 0.44) * height,
                  rng.uniform(1.7, 2.6), rng.uniform(-0.7, 0.7) * street.road, rng.uniform(-0.2, 0.2))


def random_light(rng, street):
    """Sun and sky by day; lamps, open shops and skyglow at night. Unlit lamps stand in the street by day too."""
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
    """An object to be drawn at its depth; `person` numbers pedestrians from 1 on."""

    depth: float
    draw: Callable[[Canvas], None]
    person: int = 0
    framed: float = 1.0     # share of its extent inside the image


class Scenery:
    """Places objects and people in the street without collisions, and collects their shadows."""

    def __init__(self, rng, street, camera, light):
        self.rng, self.street, self.camera, self.light = rng, street, camera, light
        self.items: list[Item] = []
        self.occupied = [(1e3, 1e3, 0.0, 0.0)]  # u, v and half extents; the first is far away
        self.shadows = []                       # image polygons
        self._cars()
        self._furniture()
        self._crowd()

    def _stand(self, u, v, shapes, half=(0.3, 0.3), person=0, framed=1.0):
        """Put upright shapes at (u, v); they cast a shadow or, without sun, stand on a dark patch."""
        depth = self.camera.view(u, v)[1]
        if depth < 2.5:
            return
        draw = partial(Canvas.billboard, u=u, v=v, shapes=shapes, person=person)
        self.items.append(Item(depth, draw, person, framed))
        self.occupied.append((u, v, *half))
        if not np.any(self.light.sun):
            foot = np.concatenate([CIRCLE * half + [u, v], np.zeros((16, 1))], 1)
            self.shadows.extend(self.camera.project(foot[None]))
        elif self.light.sunlit(u, 0.0) > 0.5:
            cos, sin = np.cos(self.camera.yaw), np.sin(self.camera.yaw)
            to_ground = np.array([[cos, -sin, 0], [*self.light.sun_step, 0]])
            for shape in shapes:
                if shape.outline.ndim == 2:
                    self.shadows.extend(self.camera.project((shape.outline @ to_ground + [u, v, 0])[None]))

    def _free(self, u, v, half=0.3):
        """Whether (u, v), which may be arrays, is unoccupied."""
        a, b, c, d = np.array(self.occupied).T[..., None]
        return ((np.abs(u - a) > half + c) | (np.abs(v - b) > half + d)).all(0)

    def _cars(self):
        """Parked cars along both curbs, driving ones in both lanes."""
        rng, street = self.rng, self.street
        for side, parked in ((-1, True), (1, True), (-1, False), (1, False)):
            v, busy = rng.uniform(4, 14), rng.uniform(0.1, 0.6) if parked else 0.3
            u = side * (street.road - 1.05 if parked else 0.38 * street.road)
            while v < min(street.end - 6, 48):
                if rng.random() < busy and self.camera.view(u, v)[1] > 6 and not -4 < v - street.crossing < 5:
                    way = side if rng.random() < 0.9 or not parked else -side
                    self._car(objects.Car(u, v if way > 0 else v + 4.5, int(way), bool(rng.random() < 0.25),
                                          objects.PAINTS[rng.integers(len(objects.PAINTS))], not parked,
                                          rng.choice([0.3, 0.3, 5]) if parked else rng.uniform(8, 18)))
                v += rng.uniform(5.3, 9) if parked else rng.uniform(14, 30)

    def _car(self, car):
        """Add a car with its shadow and, at night, its headlights, if there is room."""
        u, v, _ = car.point(0.5, 0, 0)
        if not self._free(u, v, 0.6):
            return
        self.items.append(Item(self.camera.view(u, v)[1], partial(objects.draw_car, car=car, air=self.street.air)))
        self.occupied.append((u, v, 1.2, 2.9))
        self.shadows.extend(objects.car_shadow(self.camera, self.light, car))
        if car.driving and self.street.night:
            self.light.beams.append((*car.point(1, 0, 0)[:2], car.way))

    def _furniture(self):
        """Lamps; trees or bollards along the curbs; a few objects on the pavement."""
        rng, street, air = self.rng, self.street, self.street.air
        for u, v, y, *power in self.light.lamps:
            arm = -1.2 * np.sign(u) * np.cos(self.camera.yaw)
            self._stand(u + 1.2 * np.sign(u), v, objects.lamp(y, arm, np.array(power), air), (0.1, 0.1))
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
            if spot := self._spot(road=0.0, tallest=0.35):
                self._pavement_object(kind, *spot)

    def _pavement_object(self, kind, u, v):
        """One object on the pavement; some are as warm as people, and some as tall."""
        rng, air = self.rng, self.street.air
        if kind in ("sign", "dog"):
            self._stand(u, v, objects.sign(air, rng) if kind == "sign" else people.dog(rng, air), (0.15, 0.15))
            return
        size, rgb, hot = BOXES[kind]
        degrees = air + (rng.uniform(4, 16) if rng.random() < hot else 0.5)
        draw = partial(objects.draw_box, u=u, v=v, size=size, rgb=rgb, degrees=degrees)
        self.items.append(Item(self.camera.view(u, v)[1], draw))
        self.occupied.append((u, v, size[0] / 2, size[1] / 2))

    def _spot(self, road=0.25, tallest=0.52):
        """A free place in view, log-uniform in a person's height in the image; None if there is no room."""
        rng, camera, street, tries = self.rng, self.camera, self.street, 60
        height, width = camera.size
        depth = camera.focal * 1.7 / (height * np.exp(rng.uniform(np.log(0.047), np.log(tallest), tries)))
        u, v = camera.street(rng.uniform(-0.47, 0.47, tries) * width * depth / camera.focal, depth)
        in_view = camera.horizon + camera.focal * camera.height / depth < 1.02 * height
        walkable = (np.abs(u) > street.road) | (rng.random(tries) < road)
        walkable |= (road > 0) & (np.abs(v - street.crossing - 1.6) < 1.6)
        good = (np.abs(u) < street.wall - 0.4) & (v < street.end - 1) & in_view & walkable & self._free(u, v)
        k = int(good.argmax())
        return (float(u[k]), float(v[k])) if good[k] else None

    def _crowd(self):
        """Pedestrians, alone or in groups that walk together."""
        rng = self.rng
        wanted = rng.integers(2, 9) if rng.random() < 0.97 else 0
        rain, number = rng.random() < 0.12, 0
        while number < wanted:
            if not (spot := self._spot()):
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
        """One pedestrian. Those in cold clothes keep to the light, so that one modality shows them."""
        rng, street, camera = self.rng, self.street, self.camera
        bright_here = not street.night or self.light(u, v, 1.0).max() > 0.2
        cold = rng.random() < (0.56 if bright_here else 0.03)
        bright = rng.random() < (0.95 if cold else 0.5 if not street.night else 0.3)
        look = people.random_look(rng, bright, cold, heading, umbrella)
        shapes = people.figure(look, street.air + 0.25 * street.heat * self.light.sunlit(u, 1.0))
        body = np.concatenate([shape.outline for shape in shapes if shape.body])
        right, depth = camera.view(u, v)
        corners = camera.pixels(right + body[:, 0], np.full(len(body), depth), body[:, 1])
        low, high = corners.min(0), corners.max(0)
        framed = np.prod((np.minimum(high, camera.size[::-1]) - np.maximum(low, 0)).clip(0) / (high - low))
        self._stand(u, v, shapes, person=number, framed=framed)
