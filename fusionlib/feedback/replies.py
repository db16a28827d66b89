"""What passes between `ask` and a back end."""

from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from fusionlib.data.image_io import to_uint8


class Reply(NamedTuple):
    """A back end's answer to one image. features: [L,D] on the CPU, or None where the text is still to be encoded."""

    text: str
    features: Tensor | None = None


def to_pil(image: Tensor) -> Image.Image:
    """An image [1|3,H,W] in 0..1 as an 8-bit RGB picture; gray becomes three equal channels."""
    pixels = to_uint8(image)
    return Image.fromarray(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels)
