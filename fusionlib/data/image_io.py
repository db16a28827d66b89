"""Read and write image files.

OpenCV decodes the bytes of a file, so any path works and a truncated jpg, png, bmp or tiff is refused (OpenCV 4.11 or
newer; 4.10 returns half a jpg). No decoder detects damage in the middle of a jpg, only the checksums of a split
manifest do. The EXIF orientation is not applied, since labels and the partner refer to pixels as stored. 16 bit are
divided by 65535 even if a thermal camera uses 14 of them, so rescale such recordings beforehand.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import read_bytes, require_regular_file, write_atomically

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def decode_image(data: bytes, path) -> np.ndarray:
    """Decode the bytes of an image file as `read_image` does; `path` is for error messages."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:  # the header states more pixels than OpenCV accepts
        raise FusionError(f"{path}: expected an image of at most 2^30 pixels, found one that OpenCV refuses "
                          f"({error.err}); copy it again, or cut it into tiles") from None
    if image is None:
        raise FusionError(f"{path}: expected a whole png, jpg, bmp or tiff image, found {len(data)} bytes that are "
                          "truncated, damaged or something else; copy it again")
    if image.dtype not in (np.uint8, np.uint16):
        raise FusionError(f"{path}: expected 8 or 16 bit unsigned pixels, found {image.dtype}; save it as 16-bit png")
    if image.ndim == 2:
        return image
    if image.shape[2] not in (3, 4):
        raise FusionError(f"{path}: expected gray or colour, found {image.shape[2]} channels; save it as png")
    return np.ascontiguousarray(image[..., 2::-1])  # BGR or BGRA -> RGB


def read_image(path) -> np.ndarray:
    """Read png, jpg, bmp or tiff as uint8 or uint16, [H,W] gray or [H,W,3] RGB.

    Palettes are expanded, alpha is dropped, of several pages the first is taken. Raises FusionError for a missing,
    truncated or unreadable file and for pixels that are not 8 or 16 bit unsigned.
    """
    return decode_image(read_bytes(path), path)


def image_size(path) -> tuple[int, int]:
    """(H, W) from the header alone, without decoding; raises FusionError where there is no readable header."""
    require_regular_file(path)
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return read_image(path).shape[:2]  # a format that Pillow does not read, or an error that says what is wrong


def write_image(path, image) -> None:
    """Write an image in the format of the path's suffix, one of `IMAGE_SUFFIXES`; 16 bit needs png or tiff.

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
    if suffix not in IMAGE_SUFFIXES or (image.dtype == np.uint16 and suffix not in (".png", ".tif", ".tiff")):
        raise FusionError(f"{path}: cannot hold a {8 * image.dtype.itemsize}-bit image; name a .png or .tiff file")
    _, data = cv2.imencode(suffix, image if image.ndim == 2 else np.ascontiguousarray(image[..., ::-1]))
    write_atomically(path, data.tobytes())


def is_coloured(image: np.ndarray) -> bool:
    """Whether the channels of an image [H,W] or [H,W,3] differ anywhere."""
    return image.ndim == 3 and not all(np.array_equal(image[..., 0], image[..., i]) for i in (1, 2))


def as_tensor(image: np.ndarray) -> torch.Tensor:
    """An image [H,W] or [H,W,3], uint8 or uint16, as float32 [1 or 3, H, W] in 0..1."""
    planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    planes = np.ascontiguousarray(planes)  # before the division, which is 7 times slower on strided bytes
    return torch.from_numpy(np.divide(planes, np.iinfo(image.dtype).max, dtype=np.float32))


def to_uint8(image: torch.Tensor) -> np.ndarray:
    """An image [C,H,W] in 0..1, clipped, as uint8 [H,W,C], contiguous."""
    # Rounding in place and converting with NumPy takes a sixth of the time.
    pixels = image.detach().cpu().float().mul(255).round_().clamp_(0, 255)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy().astype(np.uint8))


class LazyImages(Sequence):
    """A lazy sequence of image files as float32 [1 or 3, H, W] in 0..1; indexing raises FusionError for a bad file."""

    def __init__(self, paths: Sequence[Path]):
        self.paths = list(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int | slice) -> "torch.Tensor | LazyImages":
        if isinstance(index, slice):
            return LazyImages(self.paths[index])
        return as_tensor(read_image(self.paths[index]))


def find_images(folder: str | Path) -> list[Path]:
    """All image files below a folder, sorted, without hidden ones; raises FusionError where there is none."""
    folder = Path(folder).expanduser()
    files = sorted(folder.rglob("*")) if folder.is_dir() else []
    paths = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES
             and not any(name.startswith(".") for name in path.relative_to(folder).parts)]
    if not paths:
        found = f"{len(files)} other files" if folder.is_dir() else "no folder"
        raise FusionError(f"{folder}: expected images (png, jpg, bmp, tiff), found {found}; check the path")
    return paths
