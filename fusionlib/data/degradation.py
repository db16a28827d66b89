"""Damages of a registered pair, physically plausible and from a seed: weather, lens, sensor, codec. Not in the paper.

They train and test the restoration that words guide: the undamaged pair says what the damaged one should have become.
Light adds up and blurs in proportion to its power, so what happens before the camera's tone curve is done to the
visible image in linear light. The infrared image is taken to be proportional to what its sensor measured. One cause
that meets both sensors, as a shaking platform or fog, is two damages, at levels of the caller's choice.

OpenCV filters, draws and encodes; kornia knows sRGB and the kernel of a motion blur. Its rain (opaque gray lines of one
length) and its snow (dark surfaces turned white) simulate something else.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from kornia.color import linear_rgb_to_rgb, rgb_to_grayscale, rgb_to_linear_rgb
from kornia.filters import get_motion_kernel2d
from torch import Tensor

from fusionlib.utils.errors import FusionError

# What level 1 means. Lengths are shares of the shorter side of the image, noise is in stored values but for low light.
EXTINCTION = 2.5  # of haze, per unit of depth
CONTRAST_LOST = 0.8
DEFOCUS_RADIUS, MOTION_LENGTH = 0.02, 0.07
SHOT, READ = 0.0015, 0.003  # of low light: variance per unit of linear light, and standard deviation in darkness
STRIPE_STD, NOISE_STD = 0.07, 0.12
JPEG_QUALITY = 90, 10  # close to level 0, and at level 1


@dataclass(frozen=True)
class Degradation:
    """One kind of damage: `apply(image [C,H,W], level, random, depth [H,W])` is the damaged image, not yet clipped.

    modalities: which of "ir" and "visible" can have it. stage: "scene", "optics", "sensor" or "codec"; before the
    sensors, both images get the same random numbers. linear: whether a visible image comes and goes in linear light.
    """

    apply: Callable[[Tensor, float, np.random.Generator, Tensor], Tensor]
    modalities: tuple[str, ...]
    stage: str
    linear: bool


def degrade(ir: Tensor, visible: Tensor, damages: Sequence[tuple[str, str, float]], seed: int,
            depth: Tensor | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Damage a registered pair; a pure function of its arguments.

    Args:
        ir, visible: float32 in 0..1, [1,H,W] and [3,H,W], of at least 8x8 pixels.
        damages: (name in DEGRADATIONS, "ir" or "visible", level in 0..1), in any order: they are applied on the way of
            the light, from the scene to the file. Level 0 leaves the image bit for bit; 1 still shows the scene.
        seed: a whole number from 0 on. A damage draws the same numbers at every level and beside any other one.
        depth: [H,W] or [1,H,W], from 0 at the camera to about 1 at the far end, for haze and the veils of rain and
            snow; without it, a smooth guess: far at the top, near at the bottom, uneven.

    Returns the pair in the same form; an image without damage is the tensor that was given.

    Raises:
        FusionError: an unknown name, a modality that cannot have the damage, a level outside 0..1, a damage named
            twice, or images, depth or a seed of another form.
    """
    levels, seed = _levels(damages), _whole(seed, "the seed", 0)
    _check(ir, visible, depth)
    size = tuple(ir.shape[1:])
    depth = _guess_depth(size, seed) if depth is None else depth.reshape(size).cpu().float()
    damaged = {"ir": ir, "visible": visible}
    for modality, image in damaged.items():
        linear = False  # is the visible image in linear light now?
        for name, kind in DEGRADATIONS.items():
            if level := levels.get((name, modality), 0.0):
                if modality == "visible" and kind.linear != linear:
                    image, linear = (linear_rgb_to_rgb if linear else rgb_to_linear_rgb)(image), kind.linear
                purpose = name if kind.stage in ("scene", "optics") else f"{name}, {modality}"
                image = kind.apply(image.cpu(), level, _generator(seed, purpose), depth).clamp(0, 1)
        damaged[modality] = (linear_rgb_to_rgb(image).clamp(0, 1) if linear else image).to(damaged[modality].device)
    return damaged["ir"], damaged["visible"]


def draw(seed: int, count: int | None = None) -> list[tuple[str, str, float]]:
    """Damages for `degrade`, from a seed: `count` different ones (None: one or two, equally often), levels .25 to 1.

    Low light and overexposure never come together.
    """
    random = _generator(_whole(seed, "the seed", 0), "draw")
    kinds = list(KINDS)
    one_or_two = int(random.integers(1, 3))
    count = one_or_two if count is None else _whole(count, "the count", 1, len(kinds) - 1)
    random.shuffle(kinds)
    spare = max(kinds.index(("low light", "visible")), kinds.index(("overexposure", "visible")))
    kinds.append(kinds.pop(spare))  # the later of the two goes to the end, which no count reaches
    return [(name, modality, float(random.uniform(0.25, 1))) for name, modality in kinds[:count]]


def _haze(image, level, random, depth):
    """Haze or fog: what is far loses contrast and takes the colour of the air.

    I = J t + A (1 - t), where t = exp(-beta d) and beta = 2.5 level. Reference: Koschmieder, Theorie der horizontalen
    Sichtweite, Beiträge zur Physik der freien Atmosphäre 12, 1924.
    """
    return torch.lerp(_airlight(image, random), image, torch.exp(-EXTINCTION * level * depth))


def _rain(image, level, random, depth):
    """Rain: drops smeared by the exposure into streaks of one angle, near ones longer and fewer, before a wet veil.

    A drop shows a wide view of its surroundings: a streak is about as bright as the sky or the lit air, whatever is
    behind it, and transparent, since the drop covers a pixel for a part of the exposure only. Reference: Garg and
    Nayar, Vision and rain, International Journal of Computer Vision 75, 2007.
    """
    air, angle = _airlight(image, random), 90 + random.uniform(-25, 25)
    (height, width), scale, clear = image.shape[1:], min(image.shape[1:]) / 256, 1
    for count, length, thickness, opacity in ((700, 13, 0.4, 0.25), (250, 27, 0.6, 0.32), (50, 61, 1.0, 0.4)):
        streak = _line(length * scale, angle, thickness * scale)
        streak, margin = streak / streak.max(), len(streak) // 2  # drops beyond the border reach into the image
        drops = np.zeros((height + 2 * margin, width + 2 * margin), np.float32)
        number = _number(count, drops.shape, scale)
        spots, weights = random.integers(drops.size, size=number), random.uniform(0.3, 1, number)
        fallen = round(level * number)
        drops.flat[spots[:fallen]] = weights[:fallen]
        layer = cv2.filter2D(drops, -1, streak)[margin : margin + height, margin : margin + width]
        clear = clear * (1 - opacity * layer.clip(0, 1))
    veiled = torch.lerp(0.8 * air, image, torch.exp(-0.8 * level * depth))
    return torch.lerp((1.3 * air).clamp_max(1), veiled, torch.from_numpy(clear))


def _snow(image, level, random, depth):
    """Snow: flakes of many sizes that drift one way, the nearest out of focus, before a veil of those far away."""
    air, angle = _airlight(image, random), random.uniform(50, 130)
    size, scale, clear = image.shape[1:], min(image.shape[1:]) / 256, 1
    layers = (1100, 0.55, 0.3, 0.8), (280, 1.0, 0.4, 0.95), (60, 1.9, 0.8, 0.9), (12, 4.5, 2.2, 0.55)
    for count, radius, blur, opacity in layers:
        flakes, number = np.zeros(size, np.uint8), _number(count, size, scale)
        centres = (16 * random.random((number, 2)) * size[::-1]).astype(int)  # cv2.circle counts in 1/16 of a pixel
        radii = (16 * radius * scale * np.exp(0.45 * random.standard_normal(number))).astype(int).clip(8)
        tones = random.integers(90, 256, number)
        for i in range(round(level * number)):
            cv2.circle(flakes, centres[i].tolist(), int(radii[i]), int(tones[i]), -1, cv2.LINE_AA, 4)
        layer = cv2.filter2D(np.float32(flakes / 255), -1, _line(3 * radius * scale, angle, blur * scale))
        clear = clear * (1 - opacity * layer.clip(0, 1))
    veiled = torch.lerp(air, image, torch.exp(-0.6 * level * depth))
    return torch.lerp((2 * air).clamp_max(0.95), veiled, torch.from_numpy(clear))


def _low_contrast(image, level, random, depth):
    """Little thermal contrast, as of a scene at one temperature or behind fog: all values move towards their mean."""
    return torch.lerp(image, image.mean(), CONTRAST_LOST * level)


def _defocus_blur(image, level, random, depth):
    """Defocus: a point becomes an even disc, the circle of confusion of geometric optics, with an antialiased rim."""
    radius = 0.5 + level * max(DEFOCUS_RADIUS * min(image.shape[1:]), 0.5)
    axis = np.arange(-int(radius + 0.5), int(radius + 0.5) + 1)
    disc = (radius + 0.5 - np.hypot(axis, axis[:, None])).clip(0, 1)
    return _filtered(image, disc / disc.sum())


def _motion_blur(image, level, random, depth):
    """A camera that moves straight and evenly during the exposure: a point becomes a line."""
    return _filtered(image, _line(level * MOTION_LENGTH * min(image.shape[1:]), random.uniform(0, 180)))


def _overexposure(image, level, random, depth):
    """Too long an exposure: the sensor clips, and what is too bright for it spreads as glare around the lights."""
    lit = image * float((0.55 / image.mean().clamp_min(1e-3)).clamp(1.8, 8)) ** level
    # A stored white may have been any brightness beyond: what is nearly white is taken for a light of several times it.
    excess = (lit - 1).clamp_min(0) + 6 * level * ((image - 0.8) / 0.2).clamp_min(0)
    (height, width), glare = image.shape[1:], np.zeros(image.shape, np.float32)
    for plane, light in zip(glare, excess.numpy()):  # glare is smooth: a quarter of the size will do
        small = cv2.resize(light, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
        for share, spread in ((0.25, 0.008), (0.15, 0.03), (0.08, 0.12)):
            blurred = cv2.GaussianBlur(small, (0, 0), max(spread * min(small.shape), 0.3))
            plane += share * cv2.resize(blurred, (width, height))
    return lit + torch.from_numpy(glare)


def _low_light(image, level, random, depth):
    """Too little light: so few photons that shot noise and the noise of reading show.

    Variance a x + b at the linear value x, here normal and with a standard deviation in proportion to the level.
    Reference: Foi, Trimeche, Katkovnik and Egiazarian, Practical Poissonian-Gaussian noise modeling and fitting for
    single-image raw-data, IEEE Transactions on Image Processing 17(10), 2008.
    """
    # A scene that is dark already is dimmed less: it would be black.
    dimmed = image * float((0.012 / image.mean().clamp_min(1e-3)).clamp(1 / 16, 1 / 3)) ** level
    return dimmed + level * (SHOT * dimmed + READ**2).sqrt() * _noise(random, image.shape)


def _stripe_noise(image, level, random, depth):
    """Fixed-pattern noise of a thermal sensor: the amplifiers of columns differ, in a quarter of the seeds of rows."""
    _, height, width = image.shape
    return image + STRIPE_STD * level * _noise(random, (1, height, 1) if random.random() < 0.25 else (1, 1, width))


def _gaussian_noise(image, level, random, depth):
    """White noise of standard deviation .12 level in stored values; what leaves 0..1 is clipped."""
    return image + NOISE_STD * level * _noise(random, image.shape)


def _jpeg(image, level, random, depth):
    """A JPEG file, read again: quality 10 at level 1, 30 at .5, towards 90 near 0."""
    quality = round(JPEG_QUALITY[0] * (JPEG_QUALITY[1] / JPEG_QUALITY[0]) ** level)
    pixels = (255 * image.permute(1, 2, 0).flip(-1).numpy() + 0.5).astype(np.uint8)  # B, G, R for OpenCV
    decoded = cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return torch.from_numpy(decoded).flip(-1).permute(2, 0, 1).contiguous().float() / 255


DEGRADATIONS: dict[str, Degradation] = {  # in the order in which they are applied
    "haze": Degradation(_haze, ("visible",), "scene", True),
    "rain": Degradation(_rain, ("visible",), "scene", True),
    "snow": Degradation(_snow, ("visible",), "scene", True),
    "low contrast": Degradation(_low_contrast, ("ir",), "scene", True),
    "defocus blur": Degradation(_defocus_blur, ("ir", "visible"), "optics", True),
    "motion blur": Degradation(_motion_blur, ("ir", "visible"), "optics", True),
    "overexposure": Degradation(_overexposure, ("visible",), "sensor", True),
    "low light": Degradation(_low_light, ("visible",), "sensor", True),
    "stripe noise": Degradation(_stripe_noise, ("ir",), "sensor", False),
    "gaussian noise": Degradation(_gaussian_noise, ("ir", "visible"), "sensor", False),
    "jpeg": Degradation(_jpeg, ("visible",), "codec", False),
}
#: Every (name, modality) that there is.
KINDS = tuple((name, modality) for name, kind in DEGRADATIONS.items() for modality in kind.modalities)


def _generator(seed, purpose):
    return np.random.default_rng([seed, zlib.crc32(purpose.encode())])


def _noise(random, shape):
    return torch.from_numpy(random.standard_normal(tuple(shape), np.float32))


def _number(count, size, scale):
    """How many drops or flakes are in `size` if 256x256 has `count`; fewer where they are no wider than a pixel."""
    return max(round(count * min(scale, 1) * size[0] * size[1] / (256 * scale) ** 2), 1)


def _guess_depth(size, seed):
    """A smooth [H,W] of about .1 to 1.5: far at the top, near at the bottom, times a random field."""
    y = (np.arange(size[0], dtype=np.float32)[:, None] + 0.5) / size[0]
    field = _generator(seed, "depth").standard_normal((4, 5), np.float32)
    field = cv2.resize(field, size[::-1], interpolation=cv2.INTER_CUBIC)
    return torch.from_numpy((0.15 + 0.85 * (1 - y) ** 1.5) * np.exp(0.3 * field))


def _airlight(image, random):
    """The light [3,1,1] that air scatters: as bright as a pale surface of this scene, a little warm or cold."""
    pale = np.quantile(rgb_to_grayscale(image).numpy(), 0.95).clip(0.04, 0.8)
    warmth = 0.05 * random.uniform(-1, 1)
    return torch.tensor([1 + warmth, 1, 1 - warmth]).view(3, 1, 1) * float(pale)


def _line(length, angle, blur=0.0):
    """The kernel of a motion of about `length` pixels, 3 or more, at degrees anticlockwise; of sum 1."""
    kernel = get_motion_kernel2d(2 * max(round(length / 2 - 0.5), 1) + 1, float(angle), mode="bilinear")[0].numpy()
    return cv2.GaussianBlur(np.pad(kernel, 1 + int(3 * blur)), (0, 0), blur) if blur else kernel


def _filtered(image, kernel):
    return torch.from_numpy(np.stack([cv2.filter2D(plane, -1, kernel) for plane in image.numpy()]))


def _require(fine, expected, found, mend):
    if not fine:
        raise FusionError(f"degradation: expected {expected}, found {found}; {mend}")


def _whole(number, what, smallest, largest=None):
    limits = f"from {smallest} on" if largest is None else f"from {smallest} to {largest}"
    fine = isinstance(number, (int, np.integer)) and smallest <= number <= (number if largest is None else largest)
    _require(fine, f"{what} to be a whole number {limits}", repr(number), "give such a number")
    return int(number)


def _levels(damages):
    levels = {}
    for damage in damages:
        try:
            name, modality, level = damage
            kind, level = DEGRADATIONS.get(name), float(level)
        except (TypeError, ValueError):
            _require(False, "damages (name, modality, level)", repr(damage), "give a list of them, as draw() does")
        _require(kind, f"a damage out of {', '.join(DEGRADATIONS)}", repr(name), "give one of these names")
        _require(modality in kind.modalities, f"{name} of {' or '.join(kind.modalities)}", repr(modality),
                 "take that modality or another damage")  # fmt: skip
        _require(0 <= level <= 1, f"a level of {name} in 0..1", level, "scale it so that 1 is the strongest")
        _require((name, modality) not in levels, "each damage once", f"{name} of {modality} twice", "leave one out")
        levels[name, modality] = level
    return levels


def _check(ir, visible, depth):
    for what, image, channels in (("infrared", ir, 1), ("visible", visible, 3)):
        fine = isinstance(image, Tensor) and image.dtype == torch.float32 and image.ndim == 3 and len(image) == channels
        found = f"{image.dtype} {list(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        _require(fine, f"the {what} image as float32 tensor [{channels},H,W]", found, "read it by fusionlib.data.load")
        height, width = image.shape[1:]
        _require(min(height, width) >= 8, "at least 8x8 pixels", f"{height}x{width}", "take a larger part of the image")
        low, high = (value.item() for value in image.aminmax())
        _require(low >= 0 and high <= 1, f"{what} values in 0..1", f"{low:.4g} to {high:.4g}", "scale or clip them")
    _require(ir.shape[1:] == visible.shape[1:], "images of one size",
             f"infrared {list(ir.shape)} and visible {list(visible.shape)}", "register the pair first")  # fmt: skip
    if depth is not None:
        fine = isinstance(depth, Tensor) and depth.shape in (ir.shape, ir.shape[1:])
        found = list(depth.shape) if isinstance(depth, Tensor) else type(depth).__name__
        _require(fine, f"the depth as tensor {list(ir.shape[1:])}", found, "resize it to the images, or leave it out")
        _require(bool((depth >= 0).all() and depth.isfinite().all()), "a finite depth of at least 0", "other values",
                 "set them to that of the far end, about 1")  # fmt: skip
