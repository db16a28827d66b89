"""Which damages of `fusionlib.data.degradation` an infrared and a visible image show, and how strong they are.

No language model looks at the images: nineteen measurements are weighed by a network of one hidden layer for each
modality. A threshold on one measurement will not do: rain, snow, noise and fine texture all are bright detail, haze and
blur both weaken it, and only several measurements together tell them apart. `fusionlib.experiments.damage_detection`
fits the networks to damaged training pairs and counts their mistakes; weights/damage_analysis.json holds them.
"""

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from functools import lru_cache, reduce
from pathlib import Path

import cv2
import numpy as np
import scipy.fft
from torch import Tensor

from fusionlib.data.image_io import to_uint8
from fusionlib.utils.errors import FusionError

CLASSIFIERS = Path(__file__).resolve().parents[1] / "weights" / "damage_analysis.json"
MODALITIES = {"ir": "infrared", "visible": "visible"}
SMALLEST = 32  # pixels: below, the medians over blocks and sectors mean little
LIMIT = 4.0  # standard deviations: a measurement further away than any in training decides no more than that
LOWEST = 0.25  # level that is reported; the classifiers were fitted to none below


@dataclass(frozen=True)
class Measurements:
    """What `measure` finds in an image. "log" is the natural logarithm; logs have a small number added before."""

    # At the resolution of the file, which noise and the grid of a codec depend on.
    noise: float  # log standard deviation in the quietest tenth of blocks of 16x16 pixels, see `_noise`
    blocks: float  # log ratio of bends in brightness on the borders of 8x8 blocks to those elsewhere, see `_blocks`
    stripes: float  # log deviation of rows or columns, whichever differ more, from their neighbours
    # Of the luma, after the longer side has been reduced to 640 pixels; every second pixel will do for quantiles.
    median: float  # log
    bright: float  # 95th percentile
    brightest: float  # log 99th percentile
    range: float  # log difference of the 1st and 99th percentile
    white: float  # log fraction of pixels whose luma is white
    clipped: float  # log fraction of pixels with a clipped channel
    veil: float  # log ratio of the mean dark channel to the 95th percentile, see `_veil`
    local_contrast: float  # log median ratio of the standard deviation of a neighbourhood to its mean
    edges: float  # log mean gradient at a scale of 4 pixels
    sharpness: float  # log gradient at 1 pixel over that at 4, of the sharpest tenth of strong edges, see `_gradients`
    detail: float  # log power at high frequencies
    direction: float  # how much more power some directions have than those across them, see `_spectrum`
    grain: float  # how much more fine detail, compared with coarse, some directions have than others
    narrow: float  # log ratio of bright detail narrow in width to that narrow in height: streaks that fall
    bright_streaks: float  # log ratio of bright to dark detail narrow in width
    bright_specks: float  # log ratio of bright to dark small detail


def measure(image: Tensor, modality: str) -> Measurements:
    """Measure an image [1|3,H,W] in 0..1, of at least 32x32 pixels, as a file of 8 bits would hold it.

    modality: "ir", of which the luma is taken, or "visible". Raises FusionError for another modality or image.
    """
    _check(image, modality)
    pixels = to_uint8(image)
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.shape[2] == 3 else pixels[..., 0]
    full = gray.astype(np.float32) / 255
    planes = cv2.split(pixels) if modality == "visible" else [gray]
    low, high = reduce(cv2.min, planes), reduce(cv2.max, planes)
    scale = 640 / max(gray.shape)
    if scale < 1:
        gray, low, high = (cv2.resize(plane, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
                           for plane in (gray, low, high))  # fmt: skip
    luma = gray.astype(np.float32) / 255
    darkest, median, bright, brightest = np.quantile(luma[::2, ::2], [0.01, 0.5, 0.95, 0.99])
    edges, sharpness, grain = _gradients(luma)
    detail, direction = _spectrum(luma)
    narrow, bright_streaks, bright_specks = _top_hats(luma)
    veil, local_contrast = _veil(luma, low, bright)
    return Measurements(
        noise=_noise(full), blocks=_blocks(full), stripes=_stripes(full), median=_log(median, 0.01),
        bright=float(bright), brightest=_log(brightest, 0.01), range=_log(brightest - darkest, 0.01),
        white=_log((gray >= 250).mean()), clipped=_log((high >= 253).mean()), veil=veil, local_contrast=local_contrast,
        edges=edges, sharpness=sharpness, detail=detail, direction=direction, grain=grain, narrow=narrow,
        bright_streaks=bright_streaks, bright_specks=bright_specks,
    )  # fmt: skip


def detect(ir: Tensor, visible: Tensor) -> list[tuple[str, str, float]]:
    """The damages that a pair shows: (name in DEGRADATIONS, "ir" or "visible", estimated level in 0..1).

    Args: ir, visible: [1|3,H,W] in 0..1, of at least 32x32 pixels; they need not be registered.

    The list has the form that `data.degradation.degrade` takes, in its order of damages, visible before infrared; it is
    empty for a pair without damage. Below a level of about .3, most damages are missed; overexposure is never reported,
    since it cannot be told from bright scenes. Raises FusionError.
    """
    return [(name, modality, level) for modality, image in (("visible", visible), ("ir", ir))
            for name, level in detect_in(image, modality)]  # fmt: skip


def detect_in(image: Tensor, modality: str) -> list[tuple[str, float]]:
    """The damages (name in DEGRADATIONS, estimated level in 0..1) that one image shows; see `measure` for arguments."""
    measured, classifier = measure(image, modality), _classifiers()[modality]
    presence, level = score(classifier, standardise(measured, classifier["mean"], classifier["deviation"]))
    return [(name, min(float(each), 1.0)) for name, there, each in zip(classifier["damages"], presence > 0, level)
            if there and each >= LOWEST]  # fmt: skip


def score(layers: Mapping[str, np.ndarray], values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Presence, above 0 where a damage is there, and level of D damages: values [...,20] -> two [...,D].

    layers: "hidden" [H,20], "presence" and "level" [D,H+1]; the last column of each is the constant.
    """
    hidden = np.tanh(values @ layers["hidden"].T)
    hidden = np.concatenate([hidden, np.ones_like(hidden[..., :1])], -1)
    return hidden @ layers["presence"].T, hidden @ layers["level"].T


def standardise(measured: Measurements, mean, deviation) -> np.ndarray:
    """The measurements in standard deviations from the mean, limited to +-4, and a 1 for the constant: [20]."""
    return np.append(((np.array(astuple(measured)) - mean) / deviation).clip(-LIMIT, LIMIT), 1.0)


def noise_response(luma: np.ndarray) -> np.ndarray:
    """Response to a mask that suppresses smooth structure; its mean magnitude is 6 sqrt(2 / pi) times the noise.

    Reference: Immerkaer, Fast noise variance estimation, Computer Vision and Image Understanding 64(2), 1996.
    """
    return cv2.filter2D(luma, cv2.CV_32F, np.float32([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]))


def _noise(x):
    """Immerkaer's noise (see `rules.immerkaer`) of the quietest tenth of the blocks that are neither dark nor white.

    Texture, rain and snow are somewhere, white noise is everywhere.
    """
    height, width = (side // 16 for side in x.shape)
    response = np.abs(noise_response(x)) * np.float32(np.sqrt(np.pi / 2) / 6)
    deviation, level = (cv2.resize(plane[: 16 * height, : 16 * width], (width, height), interpolation=cv2.INTER_AREA)
                        for plane in (response, x))  # fmt: skip
    exposed = (level > 0.03) & (level < 0.95)
    return _log(np.quantile(deviation[exposed] if exposed.sum() >= 8 else deviation, 0.1), 0.5 / 255)


def _blocks(x):
    """How much more brightness jumps on the borders of a grid of 8x8 blocks that starts in the corner of the image.

    Reference: Wang, Sheikh and Bovik, No-reference perceptual quality assessment of JPEG compressed images, ICIP 2002.
    Here, a jump is compared with the slopes on both sides, and the median over the image leaves out real edges.
    """
    ratios = []
    for plane in (x, cv2.transpose(x)):
        steps = plane[:, 1:] - plane[:, :-1]
        jumps = np.abs(steps[:, 1:-1] - (steps[:, 2:] + steps[:, :-2]) / 2).mean(0)
        border, *inside = (np.median(jumps[phase % 8 :: 8]) for phase in range(6, 14))
        ratios.append(np.log((border + 0.0005) / (np.median(inside) + 0.0005)))
    return float(np.mean(ratios))


def _stripes(x):
    """Median deviation of a column or row from the mean of its neighbours; clipped, so that no edge makes a stripe."""
    deviations = [np.median(np.abs((plane[:, 1:-1] - (plane[:, :-2] + plane[:, 2:]) / 2).clip(-0.1, 0.1).mean(0)))
                  for plane in (x, cv2.transpose(x))]  # fmt: skip
    return _log(1.4826 * max(deviations), 0.0003)


def _veil(luma, low, bright):
    """Dark channel and local contrast: scattered light leaves nothing dark or rich in contrast, however small the part.

    Reference: He, Sun and Tang, Single image haze removal using dark channel prior, CVPR 2009.
    """
    side = max(3, int(0.03 * min(luma.shape)) | 1)
    dark = cv2.erode(low, np.ones((side, side), np.uint8)).mean() / 255
    mean, square = cv2.blur(luma, (side, side)), cv2.blur(luma * luma, (side, side))
    deviation = np.sqrt(np.maximum(square - mean * mean, 0))
    contrast = np.median((deviation / (mean + 0.05))[::2, ::2])
    return _log(dark, 0.01) - _log(bright, 0.01), _log(contrast, 0.005)


def _top_hats(luma):
    """Bright and dark detail that an opening or a closing removes: what falls is brighter than what is behind it."""
    luma, bright, dark = cv2.GaussianBlur(luma, (0, 0), 0.7), [], []
    for height, width in ((1, 7), (7, 1), (7, 7)):
        kernel = np.ones((height, width), np.uint8)
        bright.append(_log((luma - cv2.morphologyEx(luma, cv2.MORPH_OPEN, kernel)).mean()))
        dark.append(_log((cv2.morphologyEx(luma, cv2.MORPH_CLOSE, kernel) - luma).mean()))
    return bright[0] - bright[1], bright[0] - dark[0], bright[2] - dark[2]


def _gradients(luma):
    """Edges, their sharpness, and the spread of fine detail over the directions.

    Where an edge is blurred already, a blur by 4 pixels weakens its gradient less than at a sharp edge. Reference: Zhuo
    and Sim, Defocus map estimation from a single image, Pattern Recognition 44(9), 2011.
    """
    smooth = [cv2.GaussianBlur(luma, (0, 0), scale) for scale in (1, 4)]
    fine, coarse = ([cv2.Sobel(plane, -1, *axis, scale=1 / 8)[::2, ::2].copy() for axis in ((1, 0), (0, 1))]
                    for plane in smooth)  # fmt: skip
    strength = cv2.magnitude(*coarse)
    strong = strength >= np.quantile(strength, 0.98)
    ratio = cv2.magnitude(*fine)[strong] / (strength[strong] + 0.001)
    grain = []
    for angle in np.arange(12) * np.pi / 12:
        one, other = (np.abs(np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y).mean()
                      for x, y in (fine, coarse))  # fmt: skip
        grain.append(np.log((one + 1e-4) / (other + 1e-4)))
    return _log(strength.mean(), 0.0005), _log(np.quantile(ratio, 0.9), 0.1), float(max(grain) - min(grain))


def _spectrum(luma):
    """Mean log power between .15 and .35 cycles per pixel, and its second harmonic over the directions.

    A motion takes the detail along it and leaves that across: power falls and rises once in half a turn.
    """
    spectrum = scipy.fft.rfft2((luma - luma.mean()) * cv2.createHanningWindow(luma.shape[::-1], cv2.CV_32F))
    band, sector, sizes = _sectors(luma.shape)
    values = spectrum.ravel()[band]
    power = np.bincount(sector, np.log(values.real**2 + values.imag**2 + 1e-4), 12) / sizes
    return float(power.mean()), float(np.abs((power * np.exp(2j * np.pi / 12 * (np.arange(12) + 0.5))).mean()))


@lru_cache(16)
def _sectors(size):
    """Indices of the band in the flat spectrum, the one of twelve sectors that each is in, and the sectors' sizes."""
    y, x = scipy.fft.fftfreq(size[0])[:, None], scipy.fft.rfftfreq(size[1])[None]
    radius = np.hypot(x, y).ravel()
    band = np.flatnonzero((radius > 0.15) & (radius < 0.35))
    angle = np.mod(np.arctan2(y, x + 0 * y), np.pi).ravel()[band]
    sector = (angle * 12 / np.pi).astype(int) % 12
    return band, sector, np.maximum(np.bincount(sector, minlength=12), 1)


@lru_cache(1)
def _classifiers():
    """{modality: {"damages": names, "mean" and "deviation" in the order of fields, and the layers of `score`}}."""
    stored = json.loads(CLASSIFIERS.read_text("utf-8"))["classifiers"]
    return {modality: {key: of[key] if key == "damages" else np.array(of[key]) for key in of}
            for modality, of in stored.items()}  # fmt: skip


def _log(value, offset=0.001):
    return float(np.log(value + offset))


def _check(image, modality):
    if modality not in MODALITIES:
        raise FusionError(f'damage analysis: expected the modality "ir" or "visible", found {modality!r}; name one')
    what, found = f"the {MODALITIES[modality]} image", type(image).__name__
    if isinstance(image, Tensor):
        found = f"{image.dtype} {list(image.shape)}"
        fine = image.ndim == 3 and len(image) in (1, 3) and image.is_floating_point()
        if fine and min(image.shape[1:]) >= SMALLEST:
            low, high = (value.item() for value in image.aminmax())
            if low >= 0 and high <= 1:
                return
            found = f"values from {low:.4g} to {high:.4g}"
    raise FusionError(f"damage analysis: expected {what} as float tensor [1|3,H,W] in 0..1 of at least "
                      f"{SMALLEST}x{SMALLEST} pixels, found {found}; read it by fusionlib.data.load")
