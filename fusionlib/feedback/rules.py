"""The `rules` back end: image statistics turned into advice by fixed rules; a stand-in for LLaVA without weights.

It lets all notebooks run where no multimodal language model is available. Its answers are labelled as a stand-in.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from torch import Tensor

from fusionlib.feedback.backends import Reply
from fusionlib.feedback.damage_analysis import CLASSIFIERS, SMALLEST, detect, noise_response
from fusionlib.feedback.damage_words import describe
from fusionlib.feedback.text_encoder import encoder_name
from fusionlib.feedback.views import View
from fusionlib.utils.code import code_of
from fusionlib.utils.files import file_fingerprint, fingerprint

PLACES = ("on the left", "in the middle", "on the right")


@dataclass(frozen=True)
class ImageStatistics:
    """Statistics of the luma of an image in 0..1."""

    brightness: float  # mean
    contrast: float  # standard deviation
    sharpness: float  # mean absolute Laplacian
    noise: float  # standard deviation, see `immerkaer`
    highlights: float  # 99th percentile
    bright_clipping: float  # fraction of pixels at 1
    dark_clipping: float  # fraction of pixels at 0
    warm_contrast: float  # to their surroundings, of the brightest compact regions (in a fused image, the warm ones)
    warm_regions: int  # their number; if it is 0, their contrast is nan
    where: str  # the third of the image that most of them are in


def image_statistics(image: Tensor) -> ImageStatistics:
    """Statistics of an image [1|3,H,W] in 0..1, after its longer side has been reduced to 640 pixels."""
    rgb = image.detach().cpu().float().numpy()
    luma = rgb[0] if len(rgb) == 1 else np.tensordot(np.float32([0.299, 0.587, 0.114]), rgb, 1)
    scale = 640 / max(luma.shape)
    if scale < 1:
        luma = cv2.resize(luma, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    contrast, regions, where = warm_regions(luma)
    return ImageStatistics(
        brightness=float(luma.mean()), contrast=float(luma.std()),
        sharpness=float(np.abs(cv2.Laplacian(luma, cv2.CV_32F)).mean()),
        noise=immerkaer(luma), highlights=float(np.quantile(luma, 0.99)),
        bright_clipping=float((luma >= 254 / 255).mean()), dark_clipping=float((luma <= 1 / 255).mean()),
        warm_contrast=contrast, warm_regions=regions, where=where,
    )


def immerkaer(luma: np.ndarray) -> float:
    """Noise standard deviation of the whole image by `noise_response`; 0 below 3x3 pixels."""
    response = noise_response(luma)[1:-1, 1:-1]
    return float(np.sqrt(np.pi / 2) * np.abs(response).mean() / 6) if response.size else 0.0


def warm_regions(luma: np.ndarray) -> tuple[float, int, str]:
    """Mean contrast to the surroundings, number and position of the compact regions among the brightest 5 %."""
    smooth = cv2.GaussianBlur(luma, (0, 0), 1.5)
    middle, high, top = np.quantile(smooth, [0.5, 0.95, 0.995])
    bright = (smooth > max(high, (middle + top) / 2)).astype(np.uint8)
    count, labels, stats, centres = cv2.connectedComponentsWithStats(bright)
    contrasts, thirds = [], []
    for label in range(1, count):
        x, y, w, h, area = stats[label]
        if not luma.size * 1e-4 <= area <= luma.size * 0.05 or w > 2 * h:
            continue  # specks, large bright areas and wide shapes are not people
        margin = max(2, h // 4)
        window = np.s_[max(0, y - margin) : y + h + margin, max(0, x - margin) : x + w + margin]
        inside = labels[window] == label
        contrasts.append(float(luma[window][inside].mean() - luma[window][~inside].mean()))
        thirds.append(int(3 * centres[label][0] / luma.shape[1]))
    if not contrasts:
        return float("nan"), 0, ""
    return float(np.mean(contrasts)), len(contrasts), PLACES[int(np.bincount(thirds).argmax())]


def advise(m: ImageStatistics, people: bool = True) -> str:
    """Advice in English for an image with these statistics, as an answer to the paper's question.

    Without `people`, for questions that are not about them, it mentions neither pedestrians nor lamps.
    """
    who, target = ("people", "warm") if people else ("structures", "bright")
    degree = "strongly" if m.brightness < 0.12 else "moderately"
    rules = [  # condition, observation, advice, and what is added to it for people
        (m.brightness < 0.25, "dark", f"increase the overall brightness {degree}",
         ", above all in the shadows where pedestrians hide"),
        (m.brightness > 0.65, "very bright", "reduce the overall brightness",
         " so that pale clothing stands out from the background"),
        (m.contrast < 0.14, "flat", f"raise the contrast between {who} and the background", ""),
        (m.contrast > 0.28, "harsh", "soften the global contrast to keep detail in both shadows and lights", ""),
        (m.sharpness < 0.03, "soft", "sharpen edges and textures", " so that the outlines of pedestrians are clear"),
        (m.noise > 0.015, "noisy", f"reduce the noise without blurring small {who}", " far away"),
        (m.bright_clipping > 0.01, "overexposed in places", "suppress the glare", " of lamps and headlights"),
        (m.dark_clipping > 0.05, "black in places", "recover the texture in black regions", ""),
        (m.warm_regions == 0, f"without distinct {target} regions",
         f"emphasise {'the thermal radiation of ' * people}{who}", ""),
        (m.warm_regions > 0 and m.warm_contrast < 0.25, f"weak in its {target} regions {m.where}",
         f"make {target} targets brighter against their surroundings", ""),
    ]
    found = [(observation, text + addition * people) for applies, observation, text, addition in rules if applies]
    if not found:
        bright = "thermal targets" if people else "bright structures"
        return f"The image is clear and well exposed: keep the {bright} bright and preserve the fine textures."
    observations, advice = zip(*found)
    *others, last = observations
    listed = f"{', '.join(others)} and {last}" if others else last
    aim = "detect pedestrians more accurately" if people else "make it easier to read"
    return f"The image is {listed}. To {aim}, {'; '.join(advice)}."


def damages(ir: Tensor, visible: Tensor) -> str:
    """Advice on the damages of a pair, [1|3,H,W] each in 0..1; "" if none is found, or an image is under 32 pixels."""
    sources = ir, visible
    small = any(min(image.shape[1:]) < SMALLEST for image in sources)
    return "" if small else describe(detect(*sources))


class Rules:
    """The back end. Its revision is a digest of its code and of the classifiers of damages."""

    model, settings = "rules-1 (stand-in for LLaVA)", {}

    def __init__(self):
        self.encoder = encoder_name()
        self.revision = fingerprint([code_of(Rules), file_fingerprint(CLASSIFIERS)])[:12]

    def reply(self, images: Sequence[View], question: str) -> list[Reply]:
        """Advice for each image; the question matters only in whether it is about people.

        Where the sources are shown too, it is about their damages, and about the fused image if they have none.
        """
        people = any(word in question.lower() for word in ("pedestrian", "people", "person"))
        replies = []
        for view in images:
            fused, *sources = view if isinstance(view, tuple) else (view,)
            replies.append(Reply((damages(*sources) if sources else "") or advise(image_statistics(fused), people)))
        return replies
