"""Convert files, arrays, PIL images and tensors to float tensors in 0..1 and back to their original type."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from PIL.ImageOps import exif_transpose
from torch import Tensor

from fusionlib.data.image_io import ORIENTATION, not_levels, read_image
from fusionlib.data.infrared import DEFAULT, Reading, Remark, to_plane
from fusionlib.utils.errors import FusionError


@dataclass(frozen=True)
class Image:
    """An image in 0..1 with its name for error messages and the conversion back.

    `pixels`: float32 [1 or 3, H, W], contiguous. `bits`: 8 or 16 for integers, 0 for floats. `restore` converts float
    pixels of the same shape to the class, dtype, device and transparency of the original image.
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

    def as_visible(self) -> Tensor:
        """[3,H,W]; gray is repeated."""
        return self.pixels.expand(3, -1, -1)


@dataclass(frozen=True)
class Infrared:
    """An infrared image with its name for error messages.

    `plane`: float32 [1,H,W] in 0..1, hot is bright. `inside`: bool [1,H,W], false where the image is fully transparent
    or NaN; None where it nowhere is. `remarks`: see `infrared.to_plane`.
    """

    name: str
    plane: Tensor
    inside: Tensor | None
    remarks: list[Remark]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return tuple(self.plane.shape[1:])


def to_infrared(image, name: str, reading: Reading = DEFAULT) -> Infrared:
    """Convert an infrared image of any type that `to_image` takes.

    Integers may be signed, of 16 or 32 bits, and floats in any unit: what they mean is up to `reading`, see
    `infrared.to_plane`. Raises as `to_image`, and as `to_plane`.
    """
    values, name = raw_values(image, name)
    inside = None
    if values.ndim == 3:
        if values.shape[2] == 4 and (values[..., 3] == 0).any():
            inside = torch.from_numpy(values[..., 3] != 0)[None]
        values = values[..., :3] if values.shape[2] > 1 else values[..., 0]
    plane, remarks = to_plane(values, name, reading)
    if values.dtype.kind == "f" and (missing := np.isnan(values)).any():  # of radiometric values
        inside = torch.from_numpy(~missing)[None]
    return Infrared(name, torch.from_numpy(np.ascontiguousarray(plane))[None], inside, remarks)


def raw_values(image, name: str) -> tuple[np.ndarray, str]:
    """The values of an infrared image of any type, [H,W] or [H,W,1|3|4], unscaled; and its name. Raises FusionError."""
    if isinstance(image, str | Path):
        path = Path(image).expanduser()
        values, name = read_image(path, alpha=True), str(path)
    elif isinstance(image, PIL.Image.Image):
        name = getattr(image, "filename", "") or name
        values, alpha = _pil_values(image, name)
        values = values if alpha is None else np.dstack([values] * (3 if values.ndim == 2 else 1) + [np.asarray(alpha)])
    elif isinstance(image, Tensor):
        _check_shape(image, name)
        image = image.detach().cpu()
        image = image.float() if image.dtype.is_floating_point else image
        values = (image if image.ndim == 2 else image.permute(1, 2, 0)).numpy()
    elif isinstance(image, np.ndarray):
        _check_shape(image, name)
        values = image
    else:
        raise FusionError(_unsupported(image, name))
    _check_dtype(values.dtype, values.dtype.str[1:] in ("u1", "u2", "i1", "i2", "i4", "f2", "f4", "f8"), name)
    return values.astype(values.dtype.newbyteorder("="), copy=False), name


def to_image(image, name: str) -> Image:
    """Convert an image of any supported type.

    image: a path, read by `read_image`; an array [H,W] or [H,W,1|3|4]; a PIL image of any mode; or a tensor [H,W] or
    [1|3|4,H,W]. Arrays and tensors are uint8, uint16 or float in 0..1. A fourth channel, also of a file, is
    transparency and restored. A PIL image is turned as its EXIF orientation says; its mode 1 is restored as gray,
    palettes and CMYK as RGB. `name` is for error messages, if the image has no file.

    Raises FusionError for an unreadable file and for an unsupported type, shape, dtype or range.
    """
    if isinstance(image, str | Path):
        path = Path(image).expanduser()
        return _from_array(read_image(path, alpha=True), str(path))
    if isinstance(image, PIL.Image.Image):
        return _from_pil(image, getattr(image, "filename", "") or name)
    if isinstance(image, np.ndarray):
        return _from_array(image, name)
    if isinstance(image, Tensor):
        return _from_tensor(image, name)
    raise FusionError(_unsupported(image, name))


def _from_tensor(image: Tensor, name: str) -> Image:
    dtype, device, shape = image.dtype, image.device, image.shape
    _check_shape(image, name)
    _check_dtype(dtype, dtype.is_floating_point or dtype in (torch.uint8, torch.uint16), name)
    planes = image.detach().reshape(-1, *shape[-2:]).float()
    bits = 0 if dtype.is_floating_point else torch.iinfo(dtype).bits
    if bits:
        planes = planes / (2**bits - 1)
    else:
        if sentence := not_levels(*(bound.item() for bound in planes.aminmax()), name):
            raise FusionError(sentence)
        planes = planes.clamp(0, 1)
    count = 1 if len(planes) == 1 else 3
    alpha = planes[count:]

    def restore(fused: Tensor) -> Tensor:
        values = torch.cat([fused.to(device), alpha])  # a copy, also of inference tensors
        if bits:
            values.mul_(2**bits - 1).round_()  # in place: a large image takes a gigabyte
        return values.to(dtype).reshape(shape)

    return Image(name, planes[:count].contiguous(), bits, restore)


def _from_array(image: np.ndarray, name: str) -> Image:
    _check_shape(image, name)
    _check_dtype(image.dtype, image.dtype.str[1:] in ("u1", "u2", "f2", "f4", "f8"), name)
    # Always a copy in native byte order: torch accepts no other, and warns about read-only memory.
    native = torch.from_numpy(np.array(image, image.dtype.newbyteorder("="), order="C"))
    inner = _from_tensor(native if image.ndim == 2 else native.permute(2, 0, 1).contiguous(), name)

    def restore(fused: Tensor) -> np.ndarray:
        values = inner.restore(fused).numpy()
        values = values if image.ndim == 2 else np.ascontiguousarray(values.transpose(1, 2, 0))
        return values.astype(image.dtype, copy=False)

    return Image(name, inner.pixels, inner.bits, restore)


def _pil_values(image: PIL.Image.Image, name: str) -> tuple[np.ndarray, PIL.Image.Image | None]:
    """The values of a PIL image, upright, [H,W] or [H,W,3], and its transparency; 16 bit are uint16, 32 bit int32."""
    try:
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise FusionError(f"{name}: expected a whole image, found one that PIL cannot decode ({error}); copy it "
                          "again") from None
    alpha = None
    if image.getexif().get(ORIENTATION, 1) != 1:  # not always, since it copies
        image = exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bit, which some versions of PIL hold as 32-bit integers
        values = np.asarray(image.convert("I"))
        fits = values.size and 0 <= values.min() <= values.max() <= 65535
        return values.astype(np.uint16) if fits else values, None
    if image.mode == "1":
        return np.asarray(image.convert("L")), None
    if image.mode not in ("L", "LA", "RGB", "RGBA", "F"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode.endswith("A"):
        alpha, image = image.getchannel("A"), image.convert(image.mode.removesuffix("A"))
    return np.asarray(image), alpha


def _from_pil(image: PIL.Image.Image, name: str) -> Image:
    values, alpha = _pil_values(image, name)
    mode = image.mode
    if values.dtype == np.int32:
        raise FusionError(f"{name}: expected at most 16 bit, found values from {values.min()} to {values.max()}; "
                          "scale them to 0..65535")
    inner = _from_array(values, name)

    def restore(fused: Tensor) -> PIL.Image.Image:
        result = inner.restore(fused)
        result = PIL.Image.fromarray(result.astype(np.int32) if mode == "I" else result)
        if alpha is not None:
            result.putalpha(alpha)
        return result

    return Image(name, inner.pixels, inner.bits, restore)


def _check_shape(image: np.ndarray | Tensor, name: str) -> None:
    is_tensor = isinstance(image, Tensor)
    channels = image.shape[0 if is_tensor else -1] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in (1, 3, 4) or 0 in image.shape:
        wanted, mend = ("a tensor [H,W] or [1|3|4,H,W]", "permute") if is_tensor else ("an array [H,W] or [H,W,1|3|4]",
                                                                                      "transpose")
        raise FusionError(f"{name}: expected {wanted}, found {list(image.shape)}; {mend} it")


def _check_dtype(dtype, supported: bool, name: str) -> None:
    if not supported:
        raise FusionError(f"{name}: expected uint8, uint16 or floats in 0..1, found {dtype}; convert it to one of them")


def _unsupported(image, name: str) -> str:
    return (f"{name}: expected a path, an array, a PIL image or a tensor, found {type(image).__name__}; convert it to "
            "one of these")
