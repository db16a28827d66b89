"""Back ends that are no analysts but controls: with them in its place, does the text matter?"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fusionlib.feedback.backends import Reply, make
from fusionlib.feedback.store import Answer
from fusionlib.feedback.text_encoder import DIM, encoder_name
from fusionlib.utils.errors import FusionError

#: The prompt of the paper's ablation without a multimodal language model (section 4.5), to the letter.
PROMPT = "Brighter brightness, higher contrast, and clearer texture details."


class Fixed:
    """One text for every image.

    Args:
        text: by default the fixed prompt of the paper's ablation.
    """

    revision = ""

    def __init__(self, text: str = PROMPT):
        self.model, self.settings, self.encoder = "fixed prompt", {"text": text}, encoder_name()

    def reply(self, images: Sequence[Tensor], question: str) -> list[Reply]:
        """The text, once per image."""
        return [Reply(self.settings["text"])] * len(images)


class NoText:
    """No text: one vector of zeros for every image.

    Args:
        dim: its length D; give that of the text compared with, and both networks have the same size.
    """

    revision, encoder = "", "zeros"

    def __init__(self, dim: int = DIM):
        self.model, self.settings = "no text", {"dim": dim}

    def reply(self, images: Sequence[Tensor], question: str) -> list[Reply]:
        """An empty text with features [1,dim] of zeros, once per image."""
        return [Reply("", torch.zeros(1, self.settings["dim"]))] * len(images)


class Shuffled:
    """Another image's answer for every image: the same texts, of which none is about the image it goes with.

    The answers are those of another back end, asked and stored under its name, and dealt out anew on each call: no
    image keeps its own. Equal texts of different images may meet. Were that forbidden, the text would depend on the
    image again: with two texts in all, each would stand for the other one.

    Args:
        of: the back end whose answers are shuffled: a name or an object.
        seed: of the permutation, which depends on it and on the number of images alone.
        options: of that back end, where it is a name.

    Raises:
        FusionError: unknown back end or option.
    """

    def __init__(self, of="rules", seed: int = 0, **options):
        if of == "shuffled" or isinstance(of, Shuffled):
            raise FusionError("of must be a back end that answers, such as rules, but is shuffled itself")
        self.base, self.seed = make(of, **options) if isinstance(of, str) else of, seed
        self.model, self.revision, self.encoder = f"shuffled: {self.base.model}", self.base.revision, self.base.encoder
        self.settings = {**self.base.settings, "seed": seed}

    def deal(self, answers: Sequence[Answer]) -> list[Answer]:
        """Give every image another image's answer: name is the image's own, all else that of the answer.

        Raises:
            FusionError: fewer than two images.
        """
        if len(answers) < 2:
            raise FusionError(f"shuffled gives each image another one's answer: ask about more than {len(answers)}")
        generator = torch.Generator().manual_seed(self.seed)
        own = torch.arange(len(answers))
        while ((order := torch.randperm(len(answers), generator=generator)) == own).any():
            pass  # one permutation in e moves everything, whatever their number
        pairs = zip(answers, order.tolist())
        return [replace(answers[other], name=mine.name, backend="shuffled") for mine, other in pairs]
