"""Recognise the colour map of a false-colour infrared image, and turn its colours back into gray."""

import cv2
import numpy as np
from scipy.spatial import cKDTree

# Ironbow has no single definition; these are colours along two common versions, evenly spaced.
IRONBOW = ((0, 0, 0), (11, 0, 115), (55, 0, 143), (97, 0, 155), (139, 0, 157), (175, 1, 152), (198, 13, 139),
           (217, 41, 97), (229, 68, 25), (239, 96, 4), (245, 125, 0), (252, 159, 0), (254, 191, 0), (255, 221, 23),
           (255, 241, 116), (255, 255, 249))  # fmt: skip
SIX_COLOURS = ((0, 0, 0), (128, 0, 128), (255, 0, 0), (255, 165, 0), (255, 255, 0), (255, 255, 255))


def _table(colours) -> np.ndarray:
    """A table [256,3] that passes evenly spaced colours."""
    place = np.linspace(0, 255, len(colours))
    return np.stack([np.interp(np.arange(256), place, channel) for channel in zip(*colours)], 1)


#: {name: RGB [256,3] from cold to hot}. Without maps that are nearly gray or whose order is not the same everywhere.
MAPS = {
    name: cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], code)[:, 0, ::-1].astype(float)
    for name, code in (("jet", cv2.COLORMAP_JET), ("turbo", cv2.COLORMAP_TURBO), ("hot", cv2.COLORMAP_HOT),
                       ("inferno", cv2.COLORMAP_INFERNO), ("magma", cv2.COLORMAP_MAGMA),
                       ("plasma", cv2.COLORMAP_PLASMA), ("viridis", cv2.COLORMAP_VIRIDIS))
} | {"ironbow": _table(IRONBOW), "ironbow of six colours": _table(SIX_COLOURS)}  # fmt: skip
# Mean distance of an image's colours from its map: .4 from a png, up to 12 from a jpg, 20 from a camera that sharpens.
# Of 264 real visible images none is nearer than 13, and those below 30 are nearer to gray.
FAR = 22
SAMPLE = 2000  # pixels


def recognise(image: np.ndarray) -> str | None:
    """The name of the colour map in `MAPS` of an image, uint8 [H,W,3] RGB; None for natural colours and other maps."""
    pixels = image.reshape(-1, 3)
    pixels = pixels[:: max(1, len(pixels) // SAMPLE)].astype(float)
    from_gray = np.linalg.norm(pixels - pixels.mean(1, keepdims=True), axis=1).mean()
    distances = {name: cKDTree(table).query(pixels)[0].mean() for name, table in MAPS.items()}
    best = min(distances, key=distances.get)
    return best if distances[best] < min(FAR, from_gray / 2) else None


def to_gray(image: np.ndarray, name: str) -> np.ndarray:
    """Position in a map of `MAPS` of the colour nearest to that of each pixel: uint8 [H,W,3] -> uint8 [H,W]."""
    red, green, blue = (image[..., channel].astype(np.int32) for channel in range(3))
    codes, inverse = np.unique((red << 16 | green << 8 | blue).ravel(), return_inverse=True)
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], 1)
    return cKDTree(MAPS[name]).query(colours)[1].astype(np.uint8)[inverse].reshape(image.shape[:2])
