"""The back ends by name. A back end is any object with these attributes:

model, revision: what answers, and the version of its weights, "" where that is not known.
settings: dict of plain values, everything else that decides the answer or its features.
encoder: where the features come from.
reply(images, question): for each image [1|3,H,W] in 0..1 a `Reply`, or the exception that stands in its way.
batch: images that it wants to be asked about at once; it may be missing.
"""

import functools
import importlib
import inspect
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from fusionlib.data.image_io import to_uint8
from fusionlib.utils.distributed import process
from fusionlib.utils.errors import FusionError


class Reply(NamedTuple):
    """A back end's answer to one image. features: [L,D] on the CPU, or None where the text is still to be encoded."""

    text: str
    features: Tensor | None = None


def to_pil(image: Tensor) -> Image.Image:
    """An image [1|3,H,W] in 0..1 as an 8-bit RGB picture; gray becomes three equal channels."""
    pixels = to_uint8(image)
    return Image.fromarray(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels)


def _build(name: str, module: str, kind: str, /, **options):
    """Import only when needed: what some back ends import takes seconds."""
    factory = getattr(importlib.import_module(f"fusionlib.feedback.{module}"), kind)
    signature = inspect.signature(factory)
    try:
        signature.bind(**options)
    except TypeError as error:
        known = ", ".join(signature.parameters) or "none"
        raise FusionError(f'the back end "{name}" takes the options {known}; {error}') from None
    return factory(**options)


#: name -> factory that takes the options of the back end
BACKENDS = {
    name: functools.partial(_build, name, *place)
    for name, place in {
        "rules": ("rules", "Rules"),
        "llava": ("llava", "Llava"),
        "server": ("server", "Server"),
        "fixed": ("controls", "Fixed"),
        "none": ("controls", "NoText"),
        "shuffled": ("controls", "Shuffled"),
    }.items()
}


def make(name: str, **options):
    """The back end of this name, ready to be given to `ask`.

    Args:
        name: "rules", measurements put into words; "llava", a multimodal model through transformers; "server", one
            behind an OpenAI-compatible endpoint; or a control: "fixed", "none", "shuffled".
        options: what its class takes, such as model.

    Raises:
        FusionError: unknown name or option.
    """
    if name not in BACKENDS:
        raise FusionError(f"backend must be one of {', '.join(BACKENDS)}, but is {name!r}")
    process()  # before a back end takes a device
    backend = BACKENDS[name](**options)
    backend.name = name
    return backend
