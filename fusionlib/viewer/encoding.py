"""Read, reduce and encode the images that are sent to the page."""

from pathlib import Path

import cv2
import matplotlib
import numpy as np
from torch import Tensor
from torch.nn.functional import interpolate

from fusionlib.data.image_io import read_image, to_uint8
from fusionlib.data.image_types import raw_values, to_image, to_infrared
from fusionlib.data.infrared import Reading

LONGEST = 1920  # pixels of the longer side that are sent at first; the full resolution follows when the user zooms in
# No chroma subsampling: people are small, and colour marks the warm ones.
JPG = [cv2.IMWRITE_JPEG_QUALITY, 92, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
THUMBNAIL = 96  # pixels of height


def read(source, name: str, reading: Reading | None = None) -> np.ndarray:
    """Convert an image, as `data.image_types.to_image` takes it and raises for it, to uint8 [H,W] or [H,W,3] RGB.

    reading: how to read it, if it is infrared. 8 bit are shown as they are, in false colours, too.
    """
    if isinstance(source, str | Path):
        source, name = read_image(source), str(source)
    if reading is not None and raw_values(source, name)[0].dtype != np.uint8:
        return to_uint8(to_infrared(source, name, reading).plane)[..., 0]
    if isinstance(source, np.ndarray) and source.dtype == np.uint8 and source.shape[2:] in ((), (3,)):
        return source
    pixels = to_uint8(to_image(source, name).pixels)
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


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
    """Attention weights [h,w] as a colour overlay, uint8 RGBA [h,w,4]: clear up to the mean, then purple to yellow."""
    scale = max(1, max(weights.shape) // 320)  # the weights are smooth
    weights = interpolate(weights[None, None].float(), scale_factor=1 / scale, mode="area")[0, 0]
    weights = (weights - weights.mean()).clamp_min(0)
    weights = (weights / weights.max().clamp_min(1e-12)).numpy()
    colours = matplotlib.colormaps["inferno"](0.3 + 0.7 * weights)  # without its black, which would hide the image
    colours[..., 3] = 0.85 * np.sqrt(weights)
    return (colours * 255).round().astype(np.uint8)


def palette(name: str) -> str:
    """The 256 colours of one of matplotlib's colour maps, as hexadecimal digits: rrggbb, from dark to bright."""
    return _colours(name).tobytes().hex()


def coloured(image: np.ndarray, name: str) -> np.ndarray:
    """Pseudo-colours, uint8 [H,W,3], of the luma of an image [H,W] or [H,W,3]."""
    return _colours(name)[image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)]


def overlaid(image: np.ndarray, overlay: np.ndarray) -> np.ndarray:
    """An image, uint8 [H,W] or [H,W,3], under an overlay, uint8 RGBA [h,w,4]: uint8 [H,W,3]."""
    overlay = cv2.resize(overlay, image.shape[1::-1], interpolation=cv2.INTER_LINEAR).astype(np.float32)
    image, alpha = image if image.ndim == 3 else image[..., None], overlay[..., 3:] / 255
    return (image * (1 - alpha) + overlay[..., :3] * alpha).round().astype(np.uint8)


def _colours(name):
    return (matplotlib.colormaps[name](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


def _resized(image, scale):
    size = [max(1, round(side * scale)) for side in (image.shape[1], image.shape[0])]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
