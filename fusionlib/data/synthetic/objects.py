"""Objects in the street of the synthetic scenes: cars, lamps, trees, signs, posts and boxes, cold or hot."""

from dataclasses import dataclass

import cv2
import numpy as np

from fusionlib.data.synthetic.canvas import CIRCLE, Shape, capsules

PAINTS = ((.6, .6, .6), (.02, .02, .022), (.2, .2, .21), (.35, .03, .03), (.04, .08, .25), (.08, .09, .1),
          (.55, .5, .4), (.05, .16, .1), (.5, .3, .03))
# Outlines of a car's side as (along, up, width) in shares of its length, height and width.
SALOON = np.array([(0, .22, .96), (0, .56, .96), (.03, .62, .94), (.17, .66, .92), (.31, .98, .72), (.40, 1, .70),
                   (.58, .99, .70), (.73, .66, .92), (.96, .58, .94), (1, .48, .94), (1, .22, .96)])
VAN = np.array([(0, .15, .96), (0, .55, .96), (.02, .97, .84), (.1, 1, .82), (.68, 1, .82), (.8, .62, .92),
                (.97, .52, .94), (1, .42, .94), (1, .15, .96)])
# Corners of the side windows in the same shares.
SALOON_PANES = np.array([[(.22, .68, .92), (.47, .68, .92), (.47, .94, .74), (.33, .94, .74)],
                         [(.49, .68, .92), (.69, .68, .92), (.59, .94, .74), (.49, .94, .74)]])
VAN_PANES = np.array([[(.06, .6, .94), (.36, .6, .94), (.36, .92, .86), (.06, .92, .86)],
                      [(.39, .6, .94), (.76, .6, .94), (.68, .92, .86), (.39, .92, .86)]])
GLASS = (.05, .06, .07)


@dataclass(frozen=True)
class Car:
    """A vehicle whose rear stands at `v` and whose front points along `way`: +1 away from the camera, -1 towards it."""

    u: float
    v: float
    way: int
    van: bool
    rgb: tuple
    driving: bool    # lights on, engine and tyres warm
    warm: float      # degrees above the air of engine and tyres

    @property
    def extent(self):
        """(length, height, width) in metres."""
        return (5.0, 2.15, 1.95) if self.van else (4.4, 1.45, 1.78)

    def point(self, along, side, y):
        """World positions [..., 3] from shares of the length, half width and height."""
        length, height, width = self.extent
        u, v = self.u + side * width / 2, self.v + self.way * along * length
        return np.stack(np.broadcast_arrays(u, v, y * height), -1)


def draw_car(canvas, car: Car, air):
    """Draw a car: an extruded outline, then windows, wheels and lights on the visible sides."""
    camera, fill = canvas.camera, canvas.fill_faces
    outline, panes, glass = (VAN, VAN_PANES, (1, 4)) if car.van else (SALOON, SALOON_PANES, (3, 6))
    along, up, wide = outline.T
    side = 1 if camera.u > car.u else -1
    if not len(camera.project(np.stack([car.point(along, side * wide, up), car.point(along, -side * wide, up)]))):
        return
    rgb, body = np.array(car.rgb), air - 1.5
    eye, middle = np.array([camera.u, 0, camera.height]), car.point(0.5, 0, 0.5)
    light = canvas.light(*middle)
    left, right = car.point(along, -wide, up), car.point(along, wide, up)
    strips = np.stack([left[:-1], left[1:], right[1:], right[:-1]], 1)     # rear, roof, windscreen, bonnet, front
    centre = strips.mean(1)
    normal = np.cross(strips[:, 1] - strips[:, 0], strips[:, 3] - strips[:, 0])
    normal *= np.sign(((centre - middle) * normal).sum(1))[:, None] / np.linalg.norm(normal, axis=1)[:, None]
    tone = 0.55 + 0.55 * normal[:, 2].clip(0)                            # what faces up is brighter
    visible = (normal * (eye - centre)).sum(1) > 0
    engine = np.where((along[:-1] + along[1:] > 1.4) & (up[1:] < 0.8), 0.5, 0.05) * car.warm
    for k in np.argsort(-camera.view(centre[:, 0], centre[:, 1])[1]):
        if visible[k]:
            fill(strips[k:k + 1], rgb * light * tone[k], body + engine[k])
            if k in glass:
                pane = centre[k] + (strips[k] - centre[k]) * 0.84
                fill(pane[None], (np.array(GLASS) + 0.02 * canvas.light.ambient) * light, body - 1.5)
    fill(car.point(along, side * wide, up)[None], rgb * light * 0.72, body)
    sill = car.point(np.array([0, 1, 1, 0]), side * 0.965, np.array([.16, .16, .3, .3]))
    fill(sill[None], rgb * light * 0.4, body + 0.15 * car.warm)
    fill(car.point(panes[..., 0], side * panes[..., 2], panes[..., 1]), np.array(GLASS) * 0.8 * light, body - 1)
    axle = car.point(np.array([.18, .81]), side * 0.98, 0.33 / car.extent[1])[:, None]
    for radius, grey, share in ((0.33, .015, 0.8), (0.19, .25, 0.35)):
        fill(axle + np.pad(CIRCLE * radius, ((0, 0), (1, 0))), np.full(3, grey) * light, air + share * car.warm)
    # Headlights, grille and plate at the front; red lights and plate at the rear.
    front = (eye[1] - middle[1]) * car.way > 0
    end, box = float(front), np.array([-1, 1, 1, -1])
    fill(car.point(end, .25 * box, np.array([.27, .27, .36, .36]))[None], np.array([.5, .5, .45]) * light, air)
    if front:
        grille = car.point(end, .45 * box, np.array([.38, .38, .48, .48]))
        fill(grille[None], np.full(3, .02) * light, air + car.warm)
    on, off = ([22, 21, 18], [.6, .6, .6]) if front else ([2.2, .06, .03], [.3, .02, .02])
    rgb = np.array(on) if car.driving else np.array(off) * light
    across, low = CIRCLE[:, 0] * 0.17 + np.array([[-.76], [.76]]), .43 if front else .5
    fill(car.point(end, across, CIRCLE[:, 1] * 0.06 + low), rgb, air + (car.warm if car.driving else 0))


def lamp(tall, toward, power, air) -> list[Shape]:
    """A street lamp: post, arm, and a head at `toward` that is overexposed when it is on."""
    on = np.max(power) > 0
    arm = np.array([[0, tall], [toward, tall + 0.15], [toward, tall + 0.24], [0, tall + 0.1]])
    head = CIRCLE * [0.26, 0.09] + [toward, tall + 0.12]
    return [Shape(capsules([[0, 0]], [[0, tall]], 0.09, 0.05)[0], (.09, .1, .1), air + 0.3),
            Shape(arm, (.09, .1, .1), air + 0.3),
            Shape(head, power / np.max(power) * 30 if on else np.full(3, .4), air + (16 if on else 0.5), shines=on)]


def tree(tall, air, rng) -> list[Shape]:
    """A trunk and a crown: a dark mass under clusters of leaves, lighter towards the top."""
    fork, tips = [0, tall * .4], [[0, tall * .6], [-.7, tall * .7], [.7, tall * .72]]
    wood = capsules([[0, 0], fork, fork], tips, [.15, .07, .07], [.08, .03, .03])
    shapes = [Shape(p, (.07, .05, .035), air + 0.4) for p in wood]
    green = np.array([.07, .1, .035]) * rng.uniform(0.6, 1.1, 3)
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    edge = 1 + sum(rng.uniform(0.02, 0.07) * np.sin(n * turn + rng.uniform(0, 6)) for n in (2, 3, 5, 8, 13))
    crown = np.stack([np.cos(turn) * .3, np.sin(turn) * .27], 1) * edge[:, None] * tall
    shapes.append(Shape(crown + [0, tall * .74], green * 0.45, air + 0.2))
    for tone, lift, size, count in ((.65, -.03, .05, 70), (.9, 0, .04, 80), (1.25, .05, .03, 70), (1.7, .08, .022, 50)):
        angle, reach = rng.uniform(0, 2 * np.pi, count), np.sqrt(rng.random(count)) * 1.02
        at = np.stack([np.cos(angle) * reach * .29, np.sin(angle) * reach * .26 + .74 + lift * (1 - reach)], 1)
        leaves = at[:, None] + CIRCLE[::2] * rng.uniform(0.5, 1, (count, 1, 1)) * size * [1.2, .8]
        shapes.append(Shape(leaves * tall, green * tone, air + rng.uniform(-0.6, 0.8)))
    return shapes


def sign(air, rng) -> list[Shape]:
    """A traffic sign on a post."""
    red, white, blue, yellow = (.5, .03, .03), (.6, .6, .6), (.03, .1, .45), (.65, .55, .2)
    outline, rim, face = ((CIRCLE * 0.33, red, white), (CIRCLE[4::5][:3] * 0.42, red, yellow),
                          (CIRCLE[2::4] * 0.42, white, blue))[rng.integers(3)]
    return [Shape(capsules([[0, 0]], [[0, 2.2]], 0.035, 0.035)[0], (.3, .3, .3), air),
            Shape(outline + [0, 2.35], rim, air - 0.5), Shape(outline * 0.72 + [0, 2.35], face, air - 0.6)]


def bollard(air) -> list[Shape]:
    """A post at the curb with a light band."""
    post = capsules([[0, 0], [0, .7]], [[0, .82], [0, .74]], .07, .07)
    return [Shape(post[0], (.12, .12, .12), air + 0.6), Shape(post[1] * [1, .4] + [0, .43], (.5, .5, .46), air + 0.5)]


def draw_box(canvas, u, v, size, rgb, degrees):
    """Draw a box on the ground of size (across, along, up) in metres: a bin, cabinet, bench or advertising pillar."""
    corner = np.array([[-.5, -.5], [.5, -.5], [.5, .5], [-.5, .5]]) * size[:2] + [u, v]
    low, high = (np.concatenate([corner, np.full((4, 1), y)], 1) for y in (0, size[2]))
    sides = np.stack([low, np.roll(low, -1, 0), np.roll(high, -1, 0), high], 1)
    rgb = np.asarray(rgb) * canvas.light(u, v, size[2] / 2)
    for k in np.argsort(-canvas.camera.view(*sides[..., :2].mean(1).T)[1])[2:]:
        canvas.fill_faces(sides[k:k + 1], rgb * (0.8 if k % 2 else 0.6), degrees)
    canvas.fill_faces([high], rgb, degrees + 0.3)


def car_shadow(camera, light, car: Car):
    """Image polygons of a car's shadow on the ground."""
    top = car.point(np.array([.15, .15, .75, .75]), np.array([-.8, .8, .8, -.8]), 1)
    base = car.point(np.array([0, 0, 1, 1]), np.array([-1, 1, 1, -1]), 0)
    top = np.concatenate([top[:, :2] + top[:, 2:] * light.sun_step, np.zeros((4, 1))], 1)
    hull = cv2.convexHull(np.concatenate([base, top])[:, :2].astype(np.float32))[:, 0]
    return camera.project(np.concatenate([hull, np.zeros((len(hull), 1))], 1)[None])
