"""Back ends by name. A back end is any object with these attributes:

model, revision: what answers, and the version of its weights, "" if unknown.
settings: dict of plain values, all other settings that determine the answer or its features.
encoder: name of the encoder that computes the features.
reply(images, question): for each image, a `views.View`, a `Reply`, or the exception that prevented it.
batch: preferred number of images per call of `reply`; optional.
"""

import functools
import inspect
import pkgutil
from typing import NamedTuple, get_args

import numpy as np
from PIL import Image
from torch import Tensor

from fusionlib.config import checked
from fusionlib.data.image_io import to_uint8
from fusionlib.feedback.views import View, side_by_side
from fusionlib.utils.distributed import process
from fusionlib.utils.errors import FusionError


class Reply(NamedTuple):
    """A back end's answer to one image. features: [L,D] on the CPU, or None if the text has yet to be encoded."""

    text: str
    features: Tensor | None = None


def to_pil(image: View) -> Image.Image:
    """Convert an image [1|3,H,W] in 0..1, or several side by side, to 8-bit RGB; gray becomes three equal channels."""
    pixels = to_uint8(side_by_side(image))
    return Image.fromarray(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels)


def _build(name: str, class_name: str, /, **options):
    """Make a back end; its module is imported only now, because some take seconds."""
    factory = pkgutil.resolve_name(f"fusionlib.feedback.{class_name}")
    signature = inspect.signature(factory)
    try:
        signature.bind(**options)
    except TypeError as error:
        accepted = ", ".join(signature.parameters) or "none"
        raise FusionError(f'the back end "{name}" takes the options {accepted}; {error}') from None
    for option, value in options.items():
        kind = getattr(signature.parameters.get(option), "annotation", inspect.Parameter.empty)
        kind, *others = get_args(kind) or [kind]  # such as str or None
        if kind is not inspect.Parameter.empty and not (value is None and others):
            options[option] = checked(option, value, kind)
    return factory(**options)


#: name -> factory that takes the options of the back end
BACKENDS = {name: functools.partial(_build, name, class_name) for name, class_name in {
    "rules": "rules:Rules", "llava": "llava:Llava", "server": "server:Server",
    "fixed": "controls:Fixed", "none": "controls:NoText", "shuffled": "controls:Shuffled",
}.items()}


def make(name: str, /, **options):
    """Make the back end of this name, for `ask`.

    Args:
        name: "rules", image statistics turned into advice; "llava", a multimodal model through transformers; "server",
            a model behind an OpenAI-compatible endpoint; or a control: "fixed", "none", "shuffled".
        options: arguments of its class, such as model.

    Raises:
        FusionError: unknown name or option.
    """
    if name not in BACKENDS:
        raise FusionError(f"backend must be one of {', '.join(BACKENDS)}, but is {name!r}")
    process()  # before a back end takes a device
    backend = BACKENDS[name](**options)
    backend.name = name
    return backend
