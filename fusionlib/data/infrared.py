"""What the values of an infrared image mean: gray levels, temperatures or false colours, and whether black is hot.

8 bit, and 16 bit or floats that use their span, are gray levels as they are. Everything else is radiometric: counts of
the sensor, centikelvin or kelvin, of which a range becomes 0..1. Every reader of infrared images calls `to_plane`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fusionlib.data.color import split_luma
from fusionlib.data.image_io import as_tensor, is_coloured, not_levels
from fusionlib.utils.errors import FusionError

PERCENTILES = (0.5, 99.5)  # of radiometric values that become black and white
SPAN = 0.3  # of 65535: 16-bit images that span less are radiometric. A 14-bit camera spans at most .25
TINT = 0.03  # of 0..1: mean difference of the channels of an image below which it counts as gray
FLAT = 0.1  # of 0..1: images that span less and are not radiometric are reported
FULL = (0.0, 65535.0)  # the common range of 16-bit images that use their span
PIXELS = 200_000  # that a range is computed from
BLACK_HOT = ("warm seems to be dark here (black-hot), but is expected to be bright: give invert_ir=True or --invert-ir "
             "if so, or exchange the two images if this is the visible one")
LUMA = ("in colour, but in that of no colour map known here, so its luma is taken; false colours are not in order of "
        "temperature, so prefer gray originals")
SWAPPED = "in natural colours, unlike the visible image, so the two seem to be swapped: exchange them"

Remark = tuple[str, str]  # kind ("range", "colours", "polarity" or "swapped") and sentence


@dataclass(frozen=True)
class Reading:
    """How infrared images are read.

    `ir_range`: values that become 0 and 1, in units of the file; "auto": percentiles; None: percentiles of radiometric
    images alone. `invert`: hot is dark in the images. `common`: the range that percentiles give for a folder, a video
    or a data set, see `common_range`; None: for each image by itself. `colours`: the colour map of a video, a name in
    `pseudocolor.MAPS`. Raises FusionError for an `ir_range` that is no range.
    """

    ir_range: tuple[float, float] | str | None = None
    invert: bool = False
    common: tuple[float, float] | None = None
    colours: str | None = None

    def __post_init__(self):
        limits = self.ir_range
        if limits is None or limits == "auto":
            return
        try:
            low, high = (float(value) for value in limits)
            if isinstance(limits, str) or not -math.inf < low < high < math.inf:
                raise ValueError
        except (TypeError, ValueError):
            raise FusionError('ir_range must be "auto" or two numbers, the values that become black and white, but is '
                              f"{limits!r}; to exchange black and white, give invert_ir") from None
        object.__setattr__(self, "ir_range", (low, high))


DEFAULT = Reading()


def to_plane(image: np.ndarray, name, reading: Reading = DEFAULT) -> tuple[np.ndarray, list[Remark]]:
    """An infrared image as gray levels, and what was done to it that its viewer should know.

    Args:
        image: [H,W] or [H,W,3] RGB; unsigned or signed integers, or floats.
        name: for error messages.
        reading: how to read it.

    Returns:
        float32 [H,W] in 0..1 in which hot is bright, and remarks.

    Raises:
        FusionError: infinity, NaN among gray levels, or floats that are neither in 0..1 nor radiometric, without an
            `ir_range`.
    """
    values, unit, remarks = to_gray(image, reading.colours)
    if limits := _limits(values, unit, name, reading, remarks):
        low, high = limits
        plane = ((values.astype(np.float64) * unit - low) / max(high - low, 1e-12)).astype(np.float32)
        outside = ((plane < 0) | (plane > 1)).mean()
        plane = plane.clip(0, 1)
        if outside > 0.5:
            remarks.append(("range", f"{outside:.0%} of the values are outside of {low:.6g} to {high:.6g}, the range "
                                     "from black to white; give another ir_range"))
    else:
        full = np.iinfo(values.dtype).max if values.dtype.kind == "u" else 1
        plane = np.divide(np.ascontiguousarray(values), full, dtype=np.float32).clip(0, 1)
        if 0 < (span := np.ptp(plane)) < FLAT:
            remarks.append(("range", f"the values use {span:.1%} of black to white alone, which is nearly one gray; "
                                     'ir_range="auto" (--ir-range auto) stretches them'))
    return 1 - plane if reading.invert else plane, remarks


def _limits(values, unit, name, reading, remarks):
    """The values that become 0 and 1, and a remark where they are the image's own percentiles; None: as it is."""
    radiometric = is_radiometric(values, name, reading.ir_range is not None)
    if isinstance(reading.ir_range, tuple):
        return reading.ir_range
    if not radiometric and reading.ir_range is None:
        return None
    if reading.common == FULL and values.dtype == np.uint16:
        return None
    limits = reading.common or tuple(map(float, np.percentile(valid(values) * unit, PERCENTILES)))
    what = "radiometric values" if radiometric else "values"
    words = range_words(limits, bool(reading.common))
    remarks.append(("range", f"{what} from {values.min() * unit:.6g} to {values.max() * unit:.6g}: {words}"))
    return limits


def of_pair(plane: np.ndarray, remarks: Sequence[Remark], visible: Callable[[], np.ndarray]) -> list[Remark]:
    """All remarks on the infrared image of a pair: those of `to_plane`, and what its looks and its partner suggest.

    visible: returns the visible image, unsigned [H,W] or [H,W,3] RGB; called where infrared is in colour alone.
    """
    from fusionlib.data.polarity import is_black_hot  # here, since training reads images without it

    if ("colours", LUMA) not in remarks:
        return [*remarks, ("polarity", BLACK_HOT)] if is_black_hot(plane) else list(remarks)
    partner = visible()
    if is_coloured(partner) and not _is_tinted(partner) and colours_of(partner) is None:
        return list(remarks)
    return [("swapped", SWAPPED) if remark == ("colours", LUMA) else remark for remark in remarks]


def _eight_bit(image):
    return image if image.dtype == np.uint8 else (image // 257).astype(np.uint8)


def range_words(limits: tuple[float, float], common: bool) -> str:
    """Words about a range from percentiles, of one image or of several in common."""
    return (f"{limits[0]:.6g} and {limits[1]:.6g} ({PERCENTILES[0]} and {PERCENTILES[1]} %{' of all images' * common}) "
            "become black and white; ir_range=(low, high) or --ir-range LOW,HIGH sets others")


def span_remark(pixels: Sequence[float]) -> str | None:
    """A sentence about a 16-bit visible image whose darkest and brightest pixels, in 0..1, are near each other."""
    span = 65535 * (float(max(pixels)) - float(min(pixels)))
    return (f"the 16-bit values span only {span:.0f} of 65535, which counts as dark or pale; if its camera has fewer "
            "bits, scale it before it is fused") if 0 < span < SPAN * 65535 else None


def colours_of(image: np.ndarray) -> str | None:
    """The name of the colour map of an image with false colours, see `pseudocolor.MAPS`; None for any other."""
    if not is_coloured(image) or image.dtype.kind != "u" or _is_tinted(image):
        return None
    from fusionlib.data import pseudocolor  # here, since infrared images are rarely coloured

    return pseudocolor.recognise(_eight_bit(image))


def to_gray(image: np.ndarray, colours: str | None = None) -> tuple[np.ndarray, float, list[Remark]]:
    """The gray values of an image, their unit in that of the file, and remarks on its colours.

    Of other than false colours they are the luma, float32 in 0..1.
    """
    if not is_coloured(image):
        return _without_nan(image if image.ndim == 2 else image[..., 0])
    if name := colours or colours_of(image):
        from fusionlib.data import pseudocolor

        return pseudocolor.to_gray(_eight_bit(image), name), 1, [
            ("colours", f"in false colours ({name}), which are turned back into gray")]
    if image.dtype.kind == "u":
        planes, unit = as_tensor(image), np.iinfo(image.dtype).max
    else:
        planes, unit = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)), 1
    return split_luma(planes)[0][0].numpy(), unit, [] if _is_tinted(image) else [("colours", LUMA)]


def _without_nan(values):
    """As `to_gray`: NaN, which radiometric recordings have where there is no value, counts as the lowest."""
    if values.dtype.kind != "f" or not 0 < (missing := np.isnan(values)).sum() < values.size:
        return values, 1, []
    low, high = np.nanmin(values), np.nanmax(values)
    if 0 <= low <= high <= 1:
        return values, 1, []  # gray levels, in which it is a mistake
    return np.where(missing, low, values), 1, [("range", f"{missing.mean():.1%} of the values are NaN, which counts as "
                                                         "the lowest value")]


def _is_tinted(image):
    """Whether the colours are no more than a codec makes of gray."""
    pixels = image.reshape(-1, 3)[:: max(1, image.size // PIXELS)].astype(np.float32)
    full = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
    return np.ptp(pixels, axis=1).mean() < TINT * full


def is_radiometric(values: np.ndarray, name, given: bool = False) -> bool:
    """Whether values are other than gray levels; FusionError for those that can be neither, unless a range is given."""
    if values.dtype == np.uint8:
        return False
    if values.dtype.kind == "f":
        low, high = float(values.min()), float(values.max())
        sentence = not_levels(low, high, name)
        if sentence and not (math.isfinite(high - low) and (given or low > 2 or high - low > 2)):
            raise FusionError(f"{sentence}, or give ir_range")
        return bool(sentence)
    if values.dtype.kind == "i":
        return True
    return not use_span(valid(values))


def use_span(values: np.ndarray) -> bool:
    """Whether 16-bit values use their span.

    They do not where they all are near each other, or all but a few (a fire, dead pixels) are, far from zero.
    """
    lowest, low, high, highest = np.percentile(values, (0.01, *PERCENTILES, 99.99))
    narrow = SPAN * 65535
    return not (0 < highest - lowest < narrow or 0 < high - low < min(low, narrow))


def valid(values: np.ndarray) -> np.ndarray:
    """Some of the values, [N], without what marks pixels without a value, such as a border: the lowest, or 65535 of 16
    bits, where all others are far away from it."""
    values = values.ravel()[:: max(1, values.size // PIXELS)]
    for mark in (values.min(), 65535 if values.dtype == np.uint16 else None):
        others = values[values != mark]
        if 0 < len(others) < len(values):
            low, high = np.percentile(others, PERCENTILES)
            if 0 < high - low < max(low - mark, mark - high):
                values = others
    return values
