"""The `rules` back end: measurements of an image, put into advice. A stand-in for LLaVA that needs no weights.

It sees nothing: it measures, and writes down what an analyst would advise. It keeps the suite running where no
multimodal language model can be had; wherever its answers appear they are labelled as a stand-in.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from torch import Tensor

from fusionlib.feedback.backends import Reply
from fusionlib.feedback.text_encoder import encoder_name
from fusionlib.utils.code import code_of

MODEL = "rules-1 (stand-in for LLaVA)"
PLACES = ("on the left", "in the middle", "on the right")


@dataclass(frozen=True)
class ImageStatistics:
    """What the analyst measures in the luma of an image in 0..1.

    brightness: mean. contrast: standard deviation. sharpness: mean absolute Laplacian. noise: standard deviation
    after Immerkaer (1996). highlights: the level that the brightest hundredth of the pixels reaches. bright_clipping,
    dark_clipping: share of pixels at 1 and at 0. warm_contrast: how far the brightest compact regions, in a fused image
    the warm ones, stand out from their surroundings; nan without any. warm_regions: how many there are. where: the
    third of the picture that most of them are in.
    """

    brightness: float
    contrast: float
    sharpness: float
    noise: float
    highlights: float
    bright_clipping: float
    dark_clipping: float
    warm_contrast: float
    warm_regions: int
    where: str


def image_statistics(image: Tensor) -> ImageStatistics:
    """Measure an image [1|3,H,W] in 0..1; its longer side is reduced to 640 pixels first."""
    rgb = image.detach().cpu().float().numpy()
    luma = rgb[0] if len(rgb) == 1 else np.tensordot(np.float32([0.299, 0.587, 0.114]), rgb, 1)
    scale = 640 / max(luma.shape)
    if scale < 1:
        luma = cv2.resize(luma, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    contrast, regions, where = warm_regions(luma)
    return ImageStatistics(
        brightness=float(luma.mean()),
        contrast=float(luma.std()),
        sharpness=float(np.abs(cv2.Laplacian(luma, cv2.CV_32F)).mean()),
        noise=immerkaer(luma),
        highlights=float(np.quantile(luma, 0.99)),
        bright_clipping=float((luma >= 254 / 255).mean()),
        dark_clipping=float((luma <= 1 / 255).mean()),
        warm_contrast=contrast,
        warm_regions=regions,
        where=where,
    )


def immerkaer(luma: np.ndarray) -> float:
    """Noise by J. Immerkaer, "Fast noise variance estimation", CVIU 64 (1996): a mask that annuls smooth structure."""
    mask = np.float32([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    response = cv2.filter2D(luma, cv2.CV_32F, mask)[1:-1, 1:-1]
    return float(np.sqrt(np.pi / 2) * np.abs(response).mean() / 6) if response.size else 0.0


def warm_regions(luma: np.ndarray) -> tuple[float, int, str]:
    """Mean contrast to the surroundings, number, and place of the compact regions among the brightest 5 %."""
    smooth = cv2.GaussianBlur(luma, (0, 0), 1.5)
    middle, high, top = np.quantile(smooth, [0.5, 0.95, 0.995])
    bright = (smooth > max(high, (middle + top) / 2)).astype(np.uint8)
    count, labels, stats, centres = cv2.connectedComponentsWithStats(bright)
    contrasts, thirds = [], []
    for label in range(1, count):
        x, y, w, h, area = stats[label]
        if not luma.size * 1e-4 <= area <= luma.size * 0.05 or w > 2 * h:
            continue  # specks, large bright surfaces and flat shapes are not people
        m = max(2, h // 4)
        window = np.s_[max(0, y - m) : y + h + m, max(0, x - m) : x + w + m]
        inside = labels[window] == label
        contrasts.append(float(luma[window][inside].mean() - luma[window][~inside].mean()))
        thirds.append(int(3 * centres[label][0] / luma.shape[1]))
    if not contrasts:
        return float("nan"), 0, ""
    return float(np.mean(contrasts)), len(contrasts), PLACES[int(np.bincount(thirds).argmax())]


def advise(m: ImageStatistics, people: bool = True) -> str:
    """Advice in English that answers the paper's question for an image with these measures.

    people: the question is about them; without, the advice speaks of no scene with people and lamps in it.
    """
    found, advice = [], []

    def note(observation: str, suggestion: str, for_people: str = "") -> None:
        found.append(observation)
        advice.append(suggestion + (for_people if people else ""))

    who, targets = ("people", "warm") if people else ("structures", "bright")
    if m.brightness < 0.25:
        degree = "strongly" if m.brightness < 0.12 else "moderately"
        note("dark", f"increase the overall brightness {degree}", ", above all in the shadows where pedestrians hide")
    elif m.brightness > 0.65:
        note("very bright", "reduce the overall brightness", " so that pale clothing stands out from the background")
    if m.contrast < 0.14:
        note("flat", f"raise the contrast between {who} and the background")
    elif m.contrast > 0.28:
        note("harsh", "soften the global contrast to keep detail in both shadows and lights")
    if m.sharpness < 0.03:
        note("soft", "sharpen edges and textures", " so that the outlines of pedestrians are clear")
    if m.noise > 0.015:
        note("noisy", f"reduce the noise without blurring small {who}", " far away")
    if m.bright_clipping > 0.01:
        note("overexposed in places", "suppress the glare", " of lamps and headlights")
    if m.dark_clipping > 0.05:
        note("black in places", "recover the texture in black regions")
    if m.warm_regions == 0:
        note(f"without distinct {targets} regions", f"emphasise {'the thermal radiation of ' * people}{who}")
    elif m.warm_contrast < 0.25:
        note(f"weak in its {targets} regions {m.where}", f"make {targets} targets brighter against their surroundings")
    if not advice:
        kept = "thermal targets" if people else "bright structures"
        return f"The image is clear and well exposed: keep the {kept} bright and preserve the fine textures."
    listed = found[0] if len(found) == 1 else ", ".join(found[:-1]) + " and " + found[-1]
    aim = "detect pedestrians more accurately" if people else "make it easier to read"
    return f"The image is {listed}. To {aim}, {'; '.join(advice)}."


class Rules:
    """The back end: measures an image and puts that into advice. Its revision is a digest of its code."""

    model, settings = MODEL, {}

    def __init__(self):
        self.encoder, self.revision = encoder_name(), code_of(Rules)[:12]

    def reply(self, images: Sequence[Tensor], question: str) -> list[Reply]:
        """Advice for each image [1|3,H,W]; of the question it only matters whether it is about people."""
        people = any(word in question.lower() for word in ("pedestrian", "people", "person"))
        return [Reply(advise(image_statistics(image), people)) for image in images]
