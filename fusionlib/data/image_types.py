"""Images as people have them (files, arrays, PIL images, tensors) as tensors in 0..1, and back to what they were."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from fusionlib.data.color import split_luma
from fusionlib.data.image_io import read_image
from fusionlib.utils.errors import FusionError


@dataclass(frozen=True)
class Image:
    """An image in 0..1, what to call it in messages, and the way back.

    `pixels`: float32 [1 or 3, H, W], contiguous. `bits`: 8 or 16 of whole numbers, 0 of floats. `restore` takes float
    pixels of the same shape to the kind, type, device and transparency of the image that was given.
    """

    name: str
    pixels: Tensor
    bits: int
    restore: Callable

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return tuple(self.pixels.shape[-2:])

    @property
    def coloured(self) -> bool:
        """Whether the channels differ anywhere."""
        return not torch.equal(self.pixels, self.pixels[:1].expand_as(self.pixels))

    def as_infrared(self) -> Tensor:
        """[1,H,W]: of equal channels the first, of colours the luma."""
        return split_luma(self.pixels)[0] if self.coloured else self.pixels[:1]

    def as_visible(self) -> Tensor:
        """[3,H,W]: gray becomes three equal channels."""
        return self.pixels.expand(3, -1, -1)


def to_image(image, name: str) -> Image:
    """Understand what somebody gives as an image.

    Args:
        image: a path, read as `data.pairs.read_image` does; an array [H,W] or [H,W,1|3|4]; a PIL image of any mode; or
            a tensor [H,W] or [1|3|4,H,W]. Arrays and tensors are uint8, uint16 or float 0..1. A fourth channel is
            transparency, which is kept. Bits (mode 1) come back as gray, palettes and print colours as RGB.
        name: what to call it in messages where it is no file.

    Raises:
        FusionError: an unreadable file, or any other kind, shape, type or range.
    """
    if isinstance(image, str | Path):
        path = Path(image).expanduser()
        return _from_array(read_image(path), str(path))
    if isinstance(image, PIL.Image.Image):
        return _from_pil(image, getattr(image, "filename", "") or name)
    if isinstance(image, np.ndarray):
        return _from_array(image, name)
    if isinstance(image, Tensor):
        return _from_tensor(image, name)
    raise FusionError(f"{name}: expected a path, an array, a PIL image or a tensor, found {type(image).__name__}; "
                      "convert it to one of these")


def _from_tensor(image: Tensor, name: str) -> Image:
    dtype, device, shape = image.dtype, image.device, image.shape
    if image.ndim not in (2, 3) or (image.ndim == 3 and shape[0] not in (1, 3, 4)) or not image.numel():
        raise FusionError(f"{name}: expected a tensor [H,W] or [1|3|4,H,W], found {list(shape)}; permute it")
    _check_type(dtype, dtype.is_floating_point, dtype in (torch.uint8, torch.uint16), name)
    planes = image.detach().reshape(-1, *shape[-2:]).float()
    bits = 0 if dtype.is_floating_point else torch.iinfo(dtype).bits
    planes = planes / (2**bits - 1) if bits else _in_range(planes, name)
    count = 1 if len(planes) == 1 else 3
    alpha = planes[count:]

    def restore(fused: Tensor) -> Tensor:
        values = torch.cat([fused.to(device), alpha])  # a copy, even of what inference mode made
        if bits:
            values.mul_(2**bits - 1).round_()  # in place: a large picture has a gigabyte of them
        return values.to(dtype).reshape(shape)

    return Image(name, planes[:count].contiguous(), bits, restore)


def _from_array(image: np.ndarray, name: str) -> Image:
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)) or not image.size:
        raise FusionError(f"{name}: expected an array [H,W] or [H,W,1|3|4], found {list(image.shape)}; transpose it")
    kind = image.dtype.kind
    _check_type(image.dtype, kind == "f" and image.dtype.itemsize <= 8, image.dtype.str[1:] in ("u1", "u2"), name)
    # Always a copy in the byte order of the machine: tensors take no other, and complain about read-only memory.
    native = torch.from_numpy(np.array(image, image.dtype.newbyteorder("="), order="C"))
    inner = _from_tensor(native if image.ndim == 2 else native.permute(2, 0, 1).contiguous(), name)

    def restore(fused: Tensor) -> np.ndarray:
        values = inner.restore(fused).numpy()
        values = values if image.ndim == 2 else np.ascontiguousarray(values.transpose(1, 2, 0))
        return values.astype(image.dtype, copy=False)

    return Image(name, inner.pixels, inner.bits, restore)


def _from_pil(image: PIL.Image.Image, name: str) -> Image:
    try:
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise FusionError(f"{name}: expected a whole picture, found one that PIL cannot decode ({error}); copy it "
                          "again") from None
    mode, alpha = image.mode, None
    if mode.startswith("I"):  # 16 bit, in some files and versions of PIL as whole numbers of 32
        values = np.asarray(image.convert("I"))
        if values.size and not 0 <= values.min() <= values.max() <= 65535:
            raise FusionError(f"{name}: expected at most 16 bit, found values from {values.min()} to {values.max()}; "
                              "scale them to 0..65535")
        values = values.astype(np.uint16)
    elif mode == "1":
        values = np.asarray(image.convert("L"))
    else:
        if mode not in ("L", "LA", "RGB", "RGBA", "F"):
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        if image.mode.endswith("A"):
            alpha, image = image.getchannel("A"), image.convert(image.mode.removesuffix("A"))
        values = np.asarray(image)
    inner = _from_array(values, name)

    def restore(fused: Tensor) -> PIL.Image.Image:
        result = inner.restore(fused)
        result = PIL.Image.fromarray(result.astype(np.int32) if mode == "I" else result)
        if alpha is not None:
            result.putalpha(alpha)
        return result

    return Image(name, inner.pixels, inner.bits, restore)


def _check_type(dtype, is_float: bool, is_whole: bool, name: str) -> None:
    if not (is_float or is_whole):
        raise FusionError(f"{name}: expected uint8, uint16 or floats in 0..1, found {dtype}; convert it to one of them")


def _in_range(planes: Tensor, name: str) -> Tensor:
    low, high = (bound.item() for bound in planes.aminmax())
    if not -1e-3 <= low <= high <= 1 + 1e-3:  # a little over the edge is rounding; NaN fails every comparison
        raise FusionError(f"{name}: expected floats in 0..1, found values from {low:.4g} to {high:.4g}; divide by the "
                          "largest value of their type, such as 255, and replace what is no number")
    return planes.clamp(0, 1)
