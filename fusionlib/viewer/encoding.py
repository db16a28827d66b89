"""Read, reduce and encode the images that are sent to the page."""

from pathlib import Path

import cv2
import matplotlib
import numpy as np
from torch import Tensor
from torch.nn.functional import interpolate

from fusionlib.data.image_io import read_image, to_uint8
from fusionlib.data.image_types import to_image

LONGEST = 1920  # pixels of the longer side that are sent at first; the full resolution follows when the user zooms in
# No chroma subsampling: people are small, and colour marks the warm ones.
JPG = [cv2.IMWRITE_JPEG_QUALITY, 92, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
THUMBNAIL = 96  # pixels of height


def read(source, name: str) -> np.ndarray:
    """Convert an image, as `data.image_types.to_image` takes it and raises for it, to uint8 [H,W] or [H,W,3] RGB."""
    if not isinstance(source, str | Path):
        pixels = to_uint8(to_image(source, name).pixels)
        return pixels[..., 0] if pixels.shape[2] == 1 else pixels
    image = read_image(source)
    return image if image.dtype == np.uint8 else ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)


def reduced(image: np.ndarray, longest: int) -> np.ndarray:
    """Reduce an image so that its longer side has at most `longest` pixels."""
    scale = longest / max(image.shape[:2])
    return image if scale >= 1 else _resized(image, scale)


def encode(image: np.ndarray, exact: bool = False) -> tuple[bytes, str]:
    """Encode uint8 [H,W], [H,W,3] RGB or [H,W,4] RGBA as jpg, or losslessly as png: the bytes and their MIME type."""
    image = image if image.ndim == 2 else np.ascontiguousarray(image[..., [2, 1, 0, 3][: image.shape[2]]])
    if exact:
        return cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes(), "image/png"
    return cv2.imencode(".jpg", image, JPG)[1].tobytes(), "image/jpeg"


def thumbnail(image: np.ndarray) -> bytes:
    """A jpg of `THUMBNAIL` pixels in height."""
    return encode(_resized(image, THUMBNAIL / len(image)))[0]


def heat(weights: Tensor) -> np.ndarray:
    """Attention weights [h,w] as a colour overlay, uint8 RGBA [h,w,4], transparent up to the mean weight."""
    scale = max(1, max(weights.shape) // 320)  # the weights are smooth
    weights = interpolate(weights[None, None].float(), scale_factor=1 / scale, mode="area")[0, 0]
    weights = (weights - weights.mean()).clamp_min(0)
    weights = (weights / weights.max().clamp_min(1e-12)).numpy()
    colours = matplotlib.colormaps["inferno"](weights)
    colours[..., 3] = 0.85 * np.sqrt(weights)
    return (colours * 255).round().astype(np.uint8)


def _resized(image, scale):
    size = [max(1, round(side * scale)) for side in (image.shape[1], image.shape[0])]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
