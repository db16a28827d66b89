"""Read and write image files.

OpenCV decodes the bytes of a file, so any path works and a truncated jpg, png, bmp or tiff is refused (OpenCV 4.11 or
newer; 4.10 returns half a jpg). No decoder detects damage in the middle of a jpg, only the checksums of a split
manifest do. Before, the header is read, since some kilobytes can state 10^9 pixels. The EXIF orientation of any format
is applied, so pixels, sizes and labels are those of the upright image. What the values of an infrared image mean is up
to `fusionlib.data.infrared`.
"""

import io
import math
import os
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image

from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import WRITTEN, read_bytes, require_regular_file, write_atomically

ORIENTATION = 0x0112  # EXIF tag
MAX_PIXELS = int(os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"])  # which OpenCV obeys, too
#: Against decompression bombs: an image of more than DENSE pixels (a 4K frame has fewer) must have at least one byte
#: per PIXELS_PER_BYTE pixels, as every photograph has.
DENSE, PIXELS_PER_BYTE = 1 << 23, 50
warnings.filterwarnings("ignore", module=r"PIL\.")  # of its own limit, and of damage that the error names


def decode_image(data: bytes, path, alpha: bool = False) -> np.ndarray:
    """Decode the bytes of an image file as `read_image` does; `path` is for error messages."""
    orientation = _header(path, data).orientation
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:  # the header states more pixels than OpenCV accepts
        raise FusionError(f"{path}: expected an image of at most {MAX_PIXELS:,} pixels, found one that OpenCV refuses "
                          f"({error.err}); copy it again, or cut it into tiles") from None
    if image is None:
        raise FusionError(f"{path}: expected a whole png, jpg, bmp or tiff image, found {len(data)} bytes that are "
                          "truncated, damaged or something else; copy it again")
    if image.ndim == 3:
        if image.shape[2] not in (3, 4):
            raise FusionError(f"{path}: expected gray or colour, found {image.shape[2]} channels; save it as png")
        image = image[..., [2, 1, 0, 3]] if alpha and image.shape[2] == 4 else image[..., 2::-1]  # from BGR or BGRA
    return np.ascontiguousarray(upright(image, orientation))


def read_image(path, alpha: bool = False) -> np.ndarray:
    """Read png, jpg, bmp or tiff as [H,W] gray or [H,W,3] RGB, upright as its EXIF orientation says.

    uint8 or uint16; from tiff also the signed integers and floats of radiometric recordings, as stored. Palettes are
    expanded, of several pages the first is taken. Transparency is dropped or, with `alpha`, the fourth channel. Raises
    FusionError for a missing, truncated or unreadable file.
    """
    return decode_image(read_bytes(path), path, alpha)


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror an image [H,W,...] that is stored in an EXIF orientation, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image


def image_size(path) -> tuple[int, int]:
    """(H, W), upright, from the header alone; raises FusionError where there is no readable header."""
    # Where Pillow reads no header, OpenCV may, or the error says what is wrong.
    return _header(path).size or read_image(path).shape[:2]


def stated_size(data: bytes | None, path) -> tuple[int, int] | None:
    """(H, W), upright, in the header of an image file's bytes, or of the file at a path where `data` is None.

    None where Pillow reads no header. Raises FusionError.
    """
    return _header(path, data).size


def is_eight_bit(path) -> bool:
    """Whether the header of an image file states 8 bits or fewer. Raises FusionError."""
    return _header(path).mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")


class _Header(NamedTuple):
    """Of an image file: the size (H, W) of the upright image, EXIF orientation and Pillow's mode."""

    size: tuple[int, int] | None = None
    orientation: int = 1
    mode: str = ""


def _header(path, data: bytes | None = None) -> _Header:
    """Read the header of a file or of its bytes, as far as Pillow can.

    Raises FusionError for more pixels than `MAX_PIXELS`, and for more than an honest file of this length has.
    """
    if data is None:
        require_regular_file(path)
    try:
        with Image.open(path if data is None else io.BytesIO(data)) as image:
            (width, height), mode, orientation = image.size, image.mode, _orientation(image.info.get("exif", b""))
            if image.format == "TIFF":  # whose bytes may be signed, and which OpenCV and Pillow turn by themselves
                mode, orientation = "", 1
        count = os.path.getsize(path) if data is None else len(data)
    except Image.DecompressionBombError:  # Pillow's own limit is 178,956,970 pixels
        width, height, orientation, mode, count = MAX_PIXELS + 1, 1, 1, "", math.inf
    except Exception:  # Pillow's readers raise many types for damaged files
        return _Header()
    if width * height > MAX_PIXELS:
        found = f"{width}x{height}" if count < math.inf else "more than Pillow reads"
        raise FusionError(f"{path}: expected an image of at most {MAX_PIXELS:,} pixels, found {found}; cut it into "
                          "tiles, or set the environment variable OPENCV_IO_MAX_IMAGE_PIXELS")
    if width * height > max(DENSE, PIXELS_PER_BYTE * count):
        raise FusionError(f"{path}: expected a byte for each {PIXELS_PER_BYTE} pixels, as a photograph has, found "
                          f"{width}x{height} pixels in {count:,} bytes; save it as bmp if it is no forgery")
    return _Header((width, height) if orientation in (5, 6, 7, 8) else (height, width), orientation, mode)


def _orientation(block: bytes) -> int:
    """The orientation in an EXIF block; 1 where there is none that can be read."""
    exif = Image.Exif()
    try:
        exif.load(block)
        return exif.get(ORIENTATION, 1)
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error):
        return 1


def write_image(path, image) -> None:
    """Write an image in the format of the path's suffix, one of `WRITTEN`; 16 bit needs png or tiff.

    image: uint8 or uint16 array [H,W] or [H,W,3] RGB, or a float tensor [1,H,W] or [3,H,W] in 0..1, which is clipped
    and rounded to 8 bit. Raises FusionError for any other shape, type or suffix.
    """
    suffix = Path(path).suffix.lower()
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu()
        if image.is_floating_point() and image.ndim == 3:
            image = to_uint8(image)
            image = image[..., 0] if image.shape[2] == 1 else image
    image = np.asarray(image)
    if image.dtype not in (np.uint8, np.uint16) or image.shape[2:] not in ((), (3,)) or image.ndim < 2:
        raise FusionError(f"{path}: expected a uint8 or uint16 array [H,W] or [H,W,3], or a float tensor [1|3,H,W], to "
                          f"write, found {image.dtype} {list(image.shape)}")
    if suffix not in WRITTEN or (image.dtype == np.uint16 and suffix not in (".png", ".tif", ".tiff")):
        raise FusionError(f"{path}: cannot hold a {8 * image.dtype.itemsize}-bit image; name a .png or .tiff file")
    write_atomically(path, encode_image(image if image.ndim == 2 else image[..., ::-1], suffix, path))


def encode_image(image: np.ndarray, suffix: str, path) -> bytes:
    """An image, [H,W], BGR or BGRA, as the bytes of a file; FusionError where its format cannot hold it."""
    try:
        done, data = cv2.imencode(suffix, np.ascontiguousarray(image))
    except cv2.error:
        done = False
    if not done:
        raise FusionError(f"{path}: cannot hold {image.shape[1]}x{image.shape[0]} pixels; name a .png file")
    return data.tobytes()


def is_coloured(image: np.ndarray) -> bool:
    """Whether the channels of an image [H,W] or [H,W,1|3] differ anywhere."""
    channels = range(1, image.shape[2]) if image.ndim == 3 else ()
    return not all(np.array_equal(image[..., 0], image[..., i]) for i in channels)


def require_levels(image: np.ndarray, name) -> None:
    """FusionError for values that only infrared may have: other than 8 or 16 bits, unsigned, and floats in 0..1."""
    if image.dtype in (np.uint8, np.uint16):
        return
    if image.dtype.kind != "f":
        raise FusionError(f"{name}: expected 8 or 16 bit unsigned pixels, found {image.dtype}, which only infrared may "
                          "have; save it as 16-bit png")
    if sentence := not_levels(float(image.min()), float(image.max()), name):
        raise FusionError(sentence)


def not_levels(low: float, high: float, name) -> str:
    """The sentence on floats from `low` to `high` that are not in 0..1; "" where they are, which tolerates rounding."""
    if -1e-3 <= low <= high <= 1 + 1e-3:  # NaN fails every comparison
        return ""
    return (f"{name}: expected floats in 0..1, found values from {low:.4g} to {high:.4g}; divide by the largest value "
            "of their type, such as 255, and replace NaN")


def as_tensor(image: np.ndarray, name="image") -> torch.Tensor:
    """An image [H,W] or [H,W,3], uint8, uint16 or float in 0..1, as float32 [1 or 3, H, W] in 0..1.

    Raises FusionError, with the image's name, for others: those of radiometric recordings, see `data.infrared`.
    """
    require_levels(image, name)
    planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    planes = np.ascontiguousarray(planes)  # before the division, which is 7 times slower on strided bytes
    if image.dtype.kind == "f":
        return torch.from_numpy(planes.astype(np.float32).clip(0, 1))
    return torch.from_numpy(np.divide(planes, np.iinfo(image.dtype).max, dtype=np.float32))


def to_uint8(image: torch.Tensor) -> np.ndarray:
    """An image [C,H,W] in 0..1, clipped, as uint8 [H,W,C], contiguous."""
    # Rounding in place and converting with NumPy takes a sixth of the time.
    pixels = image.detach().cpu().float().mul(255).round_().clamp_(0, 255)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy().astype(np.uint8))


class Picture(np.ndarray):
    """An array [H,W] or [H,W,3|4] that a notebook shows; what is computed from it is a plain array."""

    def __array_wrap__(self, array, context=None, return_scalar=False):
        return array[()] if array.ndim == 0 else np.asarray(array)

    def __reduce__(self):
        return np.asarray(self).__reduce__()  # so that a pickle needs no fusionlib

    def _repr_png_(self) -> bytes | None:
        """The image, reduced to 1600 pixels; None where the values or the shape are no image's."""
        image = np.asarray(self)
        if image.dtype.kind == "f":
            image = (image.clip(0, 1) * 255).round().astype(np.uint8) if np.isfinite(image).all() else image
        shown = image.dtype in (np.uint8, np.uint16) and image.ndim > 1 and image.shape[2:] in ((), (1,), (3,), (4,))
        if not shown or not image.size:
            return None
        if (scale := 1600 / max(image.shape)) < 1:
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        if image.shape[2:] > (1,):
            image = image[..., [2, 1, 0, 3][: image.shape[2]]]  # as OpenCV has it
        return cv2.imencode(".png", np.ascontiguousarray(image))[1].tobytes()


class LazyImages(Sequence):
    """A lazy sequence of image files as float32 [1 or 3, H, W] in 0..1; indexing raises FusionError for a bad file."""

    def __init__(self, paths: Sequence[Path]):
        self.paths = list(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int | slice) -> "torch.Tensor | LazyImages":
        if isinstance(index, slice):
            return LazyImages(self.paths[index])
        return as_tensor(read_image(self.paths[index]), self.paths[index])
