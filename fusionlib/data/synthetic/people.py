"""Articulated pedestrians of the synthetic scenes: a walking skeleton with clothes of different temperatures.

A figure is drawn in an upright plane, in metres (x to the right, y up, feet at 0). Its joints move in three dimensions
and are then projected, so one gait serves all viewing directions.
"""

from dataclasses import dataclass

import numpy as np

from fusionlib.data.synthetic.canvas import CIRCLE, Shape, capsules

SKIN_DEGREES = 32.0
DARK = ((.012, .012, .014), (.02, .02, .03), (.012, .02, .045), (.04, .025, .018), (.02, .03, .02), (.045, .045, .05))
BRIGHT = ((.75, .74, .7), (.55, .05, .04), (.7, .5, .06), (.25, .42, .65), (.5, .4, .28), (.65, .3, .36),
          (.06, .3, .14), (.6, .75, .1), (.4, .4, .42), (.08, .16, .5))
SKIN = ((.42, .26, .18), (.36, .2, .12), (.22, .11, .06), (.09, .045, .03))
HAIR = ((.01, .008, .008), (.03, .016, .01), (.1, .05, .02), (.25, .18, .08), (.3, .3, .3))


@dataclass(frozen=True)
class Look:
    """Appearance and gait of a pedestrian in metres and radians; heading 0 walks away from the camera."""

    tall: float
    heading: float
    phase: float
    stride: float
    top: tuple
    bottom: tuple
    skin: tuple
    hair: tuple
    warmth: tuple[float, float, float]   # top, bottom, skin
    style: str                           # trousers | skirt | coat
    hat: bool
    backpack: bool
    bag: bool
    umbrella: bool
    arms: str                            # swing | phone | pockets


def random_look(rng, bright, cold, heading, umbrella) -> Look:
    """A random pedestrian in bright or dark clothes; a cold one wears insulation at the temperature of the air."""
    def pick(colours):
        return tuple(np.clip(np.array(colours[rng.integers(len(colours))]) * rng.uniform(0.7, 1.2), 0, 0.9))

    walks = rng.random() < 0.78
    top, bottom, skin = rng.uniform(0.45, 0.78), rng.uniform(0.4, 0.75), rng.uniform(0.92, 1.05)
    return Look(
        tall=rng.uniform(1.5, 1.9), heading=heading, phase=rng.uniform(0, 2 * np.pi),
        stride=rng.uniform(0.32, 0.5) if walks else rng.uniform(0, 0.06),
        top=pick(BRIGHT if bright else DARK), bottom=pick(BRIGHT if bright and rng.random() < 0.6 else DARK),
        skin=pick(SKIN), hair=pick(HAIR),
        warmth=(rng.uniform(0, 0.05), rng.uniform(0, 0.05), rng.uniform(0.05, 0.2)) if cold else (top, bottom, skin),
        style=str(rng.choice(["trousers", "skirt", "coat"], p=[0.62, 0.16, 0.22])), hat=cold or rng.random() < 0.2,
        backpack=rng.random() < 0.25, bag=rng.random() < 0.3, umbrella=umbrella,
        arms=str(rng.choice(["swing", "phone", "pockets"], p=[0.6, 0.2, 0.2])))


class _Pose:
    """The joints at one moment of the gait, and their projection onto the image plane."""

    def __init__(self, look: Look, air: float):
        self.look, self.air = look, air
        self.cos, self.sin = np.cos(look.heading), np.sin(look.heading)
        # The thigh swings like a pendulum, the knee bends in the forward swing; the lower foot stands on the ground.
        phase = {s: look.phase + (s > 0) * np.pi for s in (-1, 1)}
        self.thigh = {s: look.stride * np.sin(a) for s, a in phase.items()}
        self.knee = {s: 0.06 + 1.6 * look.stride * max(0, np.cos(a)) ** 2 for s, a in phase.items()}
        reach = max(0.43 * np.cos(self.thigh[s]) + 0.42 * np.cos(self.thigh[s] - self.knee[s]) for s in (-1, 1))
        self.hip = reach + 0.06
        self.shoulder = self.hip + 0.55
        self.lean = 0.04 * look.stride * self.sin

    def flat(self, side, ahead, y):
        """A joint (metres to the person's right, ahead, up) in the image plane."""
        return np.array([side * self.cos + ahead * self.sin, y])

    def width(self, across, deep):
        """Projected half width of an elliptical cross-section."""
        return np.hypot(across * self.cos, deep * self.sin)

    def shape(self, outline, rgb, warmth, body=True, shade=1.0):
        """A shape whose temperature is the air's for warmth 0 and the skin's for 1."""
        degrees = self.air + warmth * (SKIN_DEGREES - self.air)
        return Shape(np.asarray(outline) * (self.look.tall / 1.75), tuple(shade * c for c in rgb), degrees, body)


def figure(look: Look, air: float) -> list[Shape]:
    """The pedestrian's shapes from back to front; `air` in degrees Celsius."""
    pose = _Pose(look, air)
    near = 1 if pose.sin > 0 else -1
    body = _trunk(pose) + _head(pose)
    if look.backpack:
        body.insert(0 if pose.cos < 0 else len(body), _backpack(pose))
    shapes = _arm(pose, -near) + _leg(pose, -near) + _leg(pose, near) + body + _arm(pose, near)
    if look.umbrella:
        dome = np.concatenate([CIRCLE[:9] * [0.56, 0.34], [[-0.3, 0.05], [0, -0.02], [0.3, 0.05]]])
        at = [pose.lean + 0.05, pose.shoulder + 0.28]
        shapes.append(pose.shape(dome + at, BRIGHT[int(look.phase * 1.5)], 0.02, body=False))
    return shapes


def _leg(pose, s):
    """Shoe, shin and thigh of the left (s = -1) or right (s = 1) leg."""
    look, thigh, shin = pose.look, pose.thigh[s], pose.thigh[s] - pose.knee[s]
    knee = np.array([0.43 * np.sin(thigh), pose.hip - 0.43 * np.cos(thigh)])
    ankle = knee + [0.42 * np.sin(shin), -0.42 * np.cos(shin)]
    hip, knee, heel, ankle, toe = (pose.flat(0.09 * s, 0, pose.hip), pose.flat(0.1 * s, *knee),
                                   pose.flat(0.11 * s, *(ankle - [0.03, 0.02])), pose.flat(0.1 * s, *ankle),
                                   pose.flat(0.13 * s, *(ankle + [0.17, -0.035])))
    limb = capsules([hip, knee, heel], [knee, ankle, toe], [0.088, 0.066, 0.04], [0.066, 0.046, 0.032])
    cloth, warmth, skin = look.bottom, look.warmth[1], look.warmth[2]
    bare = look.style == "skirt" and skin > 0.5
    back = 0.8 if s * pose.sin < 0 else 1.0      # the far leg is darker
    return [pose.shape(limb[2], (.02, .018, .016), 0.6 * warmth),
            pose.shape(limb[1], look.skin if bare else cloth, 0.85 * skin if bare else warmth, shade=back),
            pose.shape(limb[0], cloth, warmth + 0.04, shade=back)]


def _arm(pose, s):
    """Sleeve, hand and bag of the left (s = -1) or right (s = 1) arm, which swings against the leg."""
    look = pose.look
    swing = -0.25 if look.arms == "pockets" else -0.8 * pose.thigh[s]
    bend = {"swing": 0.25 + look.stride * 0.5, "phone": 1.9 if s > 0 else 0.3, "pockets": 0.5}[look.arms]
    elbow = np.array([0.29 * np.sin(swing), pose.shoulder - 0.05 - 0.29 * np.cos(swing)])
    hand = elbow + [0.25 * np.sin(swing + bend), -0.25 * np.cos(swing + bend)]
    shoulder, elbow, hand = (pose.flat(0.185 * s, 0, pose.shoulder - 0.04), pose.flat(0.235 * s, *elbow),
                             pose.flat((0.25 if look.arms == "swing" else 0.21) * s, *hand))
    limb = capsules([shoulder, elbow], [elbow, hand], [0.062, 0.052], [0.052, 0.04])
    shapes = [pose.shape(p, look.top, look.warmth[0] - 0.05, shade=0.85) for p in limb]
    if look.arms != "pockets":
        shapes.append(pose.shape(hand + CIRCLE * 0.048, look.skin, 0.92 * look.warmth[2]))
    if look.bag and s > 0:
        bag = np.array([[-.07, .02], [.07, .02], [.14, -.3], [-.14, -.3]]) * (0.6 + 0.4 * abs(pose.sin))
        shapes.append(pose.shape(hand + bag, look.hair, 0.06, body=False))
    return shapes


def _trunk(pose):
    """Torso, coat or skirt; a second, darker outline shades one side."""
    look, hip, shoulder = pose.look, pose.hip, pose.shoulder
    chest, waist, seat = pose.width(0.2, 0.125), pose.width(0.155, 0.11), pose.width(0.17, 0.125)
    hem, flare = {"trousers": (hip - 0.04, 0), "skirt": (hip - 0.08, 0), "coat": (hip - 0.42, 0.05)}[look.style]
    half = np.array([[0.05, shoulder + 0.07], [chest * 0.75, shoulder + 0.025], [chest, shoulder - 0.05],
                     [waist, hip + 0.2], [seat, hip], [seat + flare, hem]])
    front = np.concatenate([half, half[::-1] * [-1, 1]]) + [pose.lean, 0]
    dark = np.concatenate([half[1:] * [-1, 1], half[:0:-1] * [-0.25, 1]]) + [pose.lean, 0]
    shapes = [pose.shape(front, look.top, look.warmth[0]),
              pose.shape(dark, look.top, look.warmth[0] - 0.04, shade=0.72)]
    if look.style == "skirt":
        wide = seat + 0.09 + 0.1 * look.stride
        skirt = np.array([[-seat, hip + 0.08], [seat, hip + 0.08], [wide, hip - 0.42], [-wide, hip - 0.42]])
        shapes.insert(0, pose.shape(skirt, look.bottom, look.warmth[1]))
    return shapes


def _head(pose):
    """Neck, hair, the face if it is turned to the camera, a hat."""
    look, skin = pose.look, pose.look.warmth[2]
    head = pose.flat(0, 0.03, 0) + [pose.lean, pose.shoulder + 0.2]
    neck = capsules([[pose.lean, pose.shoulder]], [head], 0.06, 0.055)[0]
    shapes = [pose.shape(neck, look.skin, 0.95 * skin, shade=0.8),
             pose.shape(head + CIRCLE * [0.088, 0.118], look.hair, 0.75 * skin)]
    if pose.cos < 0.5:
        face = head + pose.flat(0, 0.045, -0.012)
        shapes.append(pose.shape(face + CIRCLE * [0.078 * pose.width(1, 0.75), 0.1], look.skin, skin))
    if look.hat:
        shapes.append(pose.shape(CIRCLE[:9] * [0.1, 0.09] + head + [0, 0.045], look.top, 0.4 * skin, shade=0.6))
    return shapes


def _backpack(pose):
    wide, low, high = pose.width(0.15, 0.1), pose.shoulder - 0.42, pose.shoulder
    square = np.array([[-wide, low], [wide, low], [wide * 0.8, high], [-wide * 0.8, high]])
    return pose.shape(square + pose.flat(0, -0.18, 0), tuple(c + 0.01 for c in pose.look.bottom[::-1]), 0.12)


def dog(rng, air) -> list[Shape]:
    """A dog seen from the side: as warm as a person, but not one."""
    tall, way = rng.uniform(0.8, 1.3), rng.choice([-1, 1])
    x = np.array([-0.26, -0.2, 0.2, 0.26])
    start = np.array([[-.25, .42], [.27, .46], [.3, .5], [-.3, .46], *np.stack([x, np.full(4, .38)], 1)])
    end = np.array([[.25, .44], [.38, .6], [.52, .57], [-.46, .6],
                    *np.stack([x + rng.uniform(-0.1, 0.1, 4), np.full(4, .03)], 1)])
    radii = np.array([.11, .07, .075, .025, .04, .04, .04, .04])
    rgb, degrees = HAIR[rng.integers(len(HAIR))], air + 0.8 * (SKIN_DEGREES - air)
    return [Shape(p * [way * tall, tall], rgb, degrees) for p in capsules(start, end, radii, radii * 0.75)]
