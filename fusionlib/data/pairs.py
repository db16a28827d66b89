"""The `Pair` of one infrared and one visible picture, pictures in and out, and the colour space of the method.

Pictures are decoded by OpenCV, from the bytes of the file, so any path works and a truncated jpg, png, bmp or tiff is
refused (OpenCV 4.11 or newer; 4.10 returns half a jpg). Damage in the middle of a jpg shows in no decoder: only the
fingerprints of a split manifest tell. What is stored is what counts: the EXIF orientation of a jpg or png is not
applied, since labels and the partner refer to stored pixels, and nothing is stretched: 16 bit divides by 65535 even
where a thermal camera fills 14 of the 16 bits, so scale such recordings yourself before they come here.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from kornia.color import rgb_to_ycbcr, ycbcr_to_rgb
from PIL import Image, UnidentifiedImageError

from fusionlib.errors import FusionError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, eq=False)
class Pair:
    """One registered pair of pictures, with the people and things marked in it.

    `split` is "train", "test" or "" (the data set has no official parts); `name` is the stem of the files, unique
    within data set and split. `boxes` [N,4] float32 are xyxy in pixels, `classes` has one lower-case name per box
    ("person" for people and pedestrians). Both are None for a pair without labels, which is not a pair without people.
    Pairs are compared by identity.
    """

    dataset: str
    split: str
    name: str
    ir: Path
    visible: Path
    boxes: np.ndarray | None = None
    classes: tuple[str, ...] | None = None

    @property
    def label(self) -> str:
        """A name that no other pair has, and the path of its files in a run: LLVIP/test/190001, TNO/001."""
        return "/".join(filter(None, (self.dataset, self.split, self.name)))


@dataclass(frozen=True)
class Problem:
    """What is wrong with one file: `kind` is partner, duplicate, size, unreadable, label or class."""

    path: Path
    kind: str
    message: str

    def __str__(self):
        return f"{self.path}: {self.message}"


def read_bytes(path) -> bytes:
    """The content of a file; raises FusionError where it is missing, empty, no file or must not be read."""
    _refuse_what_is_no_file(path)
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise FusionError(f"{path}: cannot be read ({reason}); check the path and its permissions") from None
    if not data:
        raise FusionError(f"{path}: expected a picture, found an empty file; copy it again")
    return data


def _refuse_what_is_no_file(path):
    """A pipe would be waited for, and a device may have no end."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # whoever opens it will say why that is impossible
        return
    if not stat.S_ISREG(mode):
        found = "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
        raise FusionError(f"{path}: expected a picture, found {found}; give the path of a file")


def decode_image(data: bytes, path) -> np.ndarray:
    """Decode the bytes of a picture as `read_image` does; `path` serves the messages only."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:  # more pixels than OpenCV takes, whether they are there or not
        raise FusionError(f"{path}: expected a picture of at most 2^30 pixels, found one that OpenCV refuses "
                          f"({error.err}); copy it again, or cut it into parts") from None
    if image is None:
        raise FusionError(f"{path}: expected a whole png, jpg, bmp or tiff picture, found {len(data)} bytes that are "
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
    _refuse_what_is_no_file(path)
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return read_image(path).shape[:2]  # a rare format after all, or an error that says what is wrong


def write_atomically(path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all; folders on the way are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(data)
    unfinished.replace(path)


def write_image(path, image) -> None:
    """Write a picture in the format of the path's suffix.

    Args:
        path: ends in one of `IMAGE_SUFFIXES`; 16 bit needs png or tiff.
        image: uint8 or uint16 array [H,W] or [H,W,3] RGB, or a float tensor [1,H,W] or [3,H,W] in 0..1, which is
            clipped and rounded to 8 bit.

    Raises FusionError for any other shape, type or suffix.
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
        raise FusionError(f"{path}: cannot hold a {8 * image.dtype.itemsize}-bit picture; name a .png or .tiff file")
    _, data = cv2.imencode(suffix, image if image.ndim == 2 else np.ascontiguousarray(image[..., ::-1]))
    write_atomically(path, data.tobytes())


def load(pair: Pair) -> tuple[torch.Tensor, torch.Tensor]:
    """Load a pair as float32 in 0..1: infrared [1,H,W] and visible [3,H,W].

    Infrared of three equal channels is one channel; coloured infrared is taken by its luma. A gray visible picture
    becomes three equal channels.
    Raises FusionError for an unreadable file and for pictures of different size.
    """
    ir, visible = read_image(pair.ir), read_image(pair.visible)
    if ir.shape[:2] != visible.shape[:2]:
        raise FusionError(size_mismatch(pair.ir, ir.shape[:2], pair.visible, visible.shape[:2]))
    ir, visible = as_tensor(ir if is_coloured(ir) else ir.reshape(*ir.shape[:2], -1)[..., 0]), as_tensor(visible)
    ir = rgb_to_ycbcr(ir)[:1] if len(ir) == 3 else ir
    return ir, visible.expand(3, -1, -1).contiguous()


def is_coloured(image: np.ndarray) -> bool:
    """Whether the channels of a picture [H,W] or [H,W,3] differ anywhere."""
    return image.ndim == 3 and not all(np.array_equal(image[..., 0], image[..., i]) for i in (1, 2))


def as_tensor(image: np.ndarray) -> torch.Tensor:
    """A picture [H,W] or [H,W,3], uint8 or uint16, as float32 [1 or 3, H, W] in 0..1."""
    planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    planes = np.ascontiguousarray(planes)  # before the division, which is 7 times slower on strided bytes
    return torch.from_numpy(np.divide(planes, np.iinfo(image.dtype).max, dtype=np.float32))


def to_uint8(image: torch.Tensor) -> np.ndarray:
    """An image [C,H,W] in 0..1, clipped, as uint8 [H,W,C], contiguous."""
    # Rounded in place and converted by NumPy, this takes a sixth of the time.
    pixels = image.detach().cpu().float().mul(255).round_().clamp_(0, 255)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy().astype(np.uint8))


def size_mismatch(ir: Path, ir_size, visible: Path, visible_size) -> str:
    """The sentence about two partners, of (H, W) each, that are not of one size."""
    (h, w), (vh, vw) = ir_size, visible_size
    hint = "undo the EXIF orientation, which is not applied here" if (h, w) == (vw, vh) else "register the two first"
    return f"{visible}: expected {w}x{h} like its infrared partner {ir}, found {vw}x{vh}; {hint}"


def split_luma(visible: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """RGB in 0..1 -> luma (0.299 R + 0.587 G + 0.114 B) and chroma Cb, Cr around 0.5.

    [B,3,H,W] -> [B,1,H,W] and [B,2,H,W]; or one image, [3,H,W] -> [1,H,W] and [2,H,W].
    """
    return rgb_to_ycbcr(visible).split((1, 2), dim=-3)


def merge_luma(y: torch.Tensor, cbcr: torch.Tensor) -> torch.Tensor:
    """Luma [B,1,H,W] and chroma [B,2,H,W] -> RGB [B,3,H,W], clipped to 0..1; inverse of `split_luma` to 1e-6.

    One image alike: [1,H,W] and [2,H,W] -> [3,H,W].
    """
    return ycbcr_to_rgb(torch.cat([y, cbcr], dim=-3)).clamp(0, 1)
