"""Whether hot is dark in an infrared image (black-hot)."""

import math

import cv2
import numpy as np

SIDE = 256  # pixels of the longer side that an image is reduced to
# None of 264 real pairs of LLVIP, M3FD, MSRS, RoadScene and TNO is black-hot by these, and 75 % of their negatives are.
SKY = 1.1  # standard deviations by which the upper fifth is brighter than the lower three
EXTREMES = 1.2  # logarithm of how much farther from the median the darkest pixels are than the brightest
SKEW = 1.0  # of details, towards the dark


def is_black_hot(plane: np.ndarray) -> bool:
    """Whether the sky is brighter than the ground, or the small objects that stand out are dark.

    plane: float32 [H,W] in 0..1. It is no more than a suspicion: in the sun, people may be darker than the ground.
    """
    factor = SIDE / max(plane.shape)
    size = [max(1, round(side * factor)) for side in plane.shape[::-1]]
    small = 255 * cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
    deviation, fifth = small.std(), len(small) // 5
    if min(size) < 32 or deviation < 1:
        return False
    if small[:fifth].mean() - small[-3 * fifth :].mean() > SKY * deviation:
        return True
    dark, median, bright = np.percentile(small, (0.3, 50, 99.7))
    details = small - cv2.GaussianBlur(small, (0, 0), 8)
    skew = ((details - details.mean()) ** 3).mean() / (details.std() + 1e-6) ** 3
    return bool(math.log((median - dark + 1) / (bright - median + 1)) > EXTREMES and skew < -SKEW)
