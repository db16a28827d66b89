"""Pictures on their way to the page: read from whatever they are, reduced and encoded."""

from pathlib import Path

import cv2
import matplotlib
import numpy as np
from torch import Tensor
from torch.nn.functional import interpolate

from fusionlib.data.image_io import read_image, to_uint8
from fusionlib.data.image_types import to_image

LONGEST = 1920  # pixels of the longer side that are sent unasked; what is enlarged beyond them is sent whole
# Colour at full resolution: people are small, and warm ones are shown by colour.
JPG = [cv2.IMWRITE_JPEG_QUALITY, 92, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
THUMBNAIL = 96  # pixels of height


def read(source, name: str) -> np.ndarray:
    """A picture as uint8 [H,W] or [H,W,3] RGB; `source` is what `data.images.understand` takes.

    Raises:
        FusionError: a file that cannot be read, or something that is no image.
    """
    if not isinstance(source, str | Path):
        planes = to_uint8(to_image(source, name).pixels)
        return planes[..., 0] if planes.shape[2] == 1 else planes
    image = read_image(source)
    return image if image.dtype == np.uint8 else ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)


def reduced(image: np.ndarray, longest: int) -> np.ndarray:
    """The picture with its longer side reduced to so many pixels; a smaller one as it is."""
    height, width = image.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def encode(image: np.ndarray, exact: bool = False) -> tuple[bytes, str]:
    """uint8 [H,W], [H,W,3] RGB or [H,W,4] RGBA as bytes and their MIME type: jpg, or png where each value counts."""
    image = image if image.ndim == 2 else np.ascontiguousarray(image[..., [2, 1, 0, 3][: image.shape[2]]])
    if exact:
        return cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes(), "image/png"
    return cv2.imencode(".jpg", image, JPG)[1].tobytes(), "image/jpeg"


def thumbnail(image: np.ndarray) -> bytes:
    """A jpg of `THUMBNAIL` pixels in height."""
    height, width = image.shape[:2]
    size = max(1, round(width * THUMBNAIL / height)), THUMBNAIL
    return encode(cv2.resize(image, size, interpolation=cv2.INTER_AREA))[0]


def heat(weights: Tensor) -> np.ndarray:
    """Weights [h,w] as RGBA [h,w,4], clear where they are not above their mean, to be laid over a picture.

    A word that looks everywhere alike would otherwise hide the picture.
    """
    scale = max(1, max(weights.shape) // 320)  # smooth anyway
    weights = interpolate(weights[None, None].float(), scale_factor=1 / scale, mode="area")[0, 0]
    weights = (weights - weights.mean()).clamp_min(0)
    weights = (weights / weights.max().clamp_min(1e-12)).numpy()
    colours = matplotlib.colormaps["inferno"](weights)
    colours[..., 3] = 0.85 * np.sqrt(weights)
    return (colours * 255).round().astype(np.uint8)
