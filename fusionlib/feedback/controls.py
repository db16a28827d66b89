"""Controls (fixed prompt, no text, shuffled answers, numbers for words): do results depend on what the text says?"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fusionlib.data.degradation import KINDS
from fusionlib.feedback.backends import Reply, make
from fusionlib.feedback.store import Answer
from fusionlib.feedback.text_encoder import DIM, encoder_name
from fusionlib.utils.errors import FusionError

#: The prompt of the paper's ablation without a multimodal language model (section 4.5), verbatim.
PROMPT = "Brighter brightness, higher contrast, and clearer texture details."

#: Sentences about nothing that an image shows.
UNRELATED = (
    "A cat sleeps on the sofa.", "The train leaves at noon.", "Bread is baked in the oven.", "She plays the violin.",
    "Two plus two is four.", "The stock market fell today.", "He forgot his umbrella at the office.",
    "Our garden has red tulips.", "The recipe needs three eggs.", "A letter arrived from Norway.",
    "The museum opens on Tuesday.", "Football is played on grass.", "A dog chases a ball in the park.",
    "The committee meets next month.", "Coffee tastes better with milk.", "The novel has twelve chapters.",
)  # fmt: skip
UNRELATED_READ, UNRELATED_UNREAD = UNRELATED[:-4], UNRELATED[-4:]  # in training


def as_numbers(damages: Sequence[tuple[str, str, float]], dim: int = DIM) -> Tensor:
    """Damages as numbers in place of words: (name, modality, level in 0..1) -> [kinds, dim].

    Each row stands for one of `degradation.KINDS`: 1 at its index and its level, 0 if it is not there, further on.
    """
    levels = {(name, modality): level for name, modality, level in damages}
    numbers = torch.zeros(len(KINDS), dim)
    for index, kind in enumerate(KINDS):
        numbers[index, index], numbers[index, len(KINDS) + index] = 1, levels.get(kind, 0)
    return numbers


class Fixed:
    """The same text for every image, by default the fixed prompt of the paper's ablation."""

    revision = ""

    def __init__(self, text: str = PROMPT):
        self.model, self.settings, self.encoder = "fixed prompt", {"text": text}, encoder_name()

    def reply(self, images: Sequence[Tensor], question: str) -> list[Reply]:
        """The text, once per image."""
        return [Reply(self.settings["text"])] * len(images)


class NoText:
    """No text: one zero vector per image; with the `dim` of the text compared with, both networks have one size."""

    revision, encoder = "", "zeros"

    def __init__(self, dim: int = DIM):
        self.model, self.settings = "no text", {"dim": dim}

    def reply(self, images: Sequence[Tensor], question: str) -> list[Reply]:
        """An empty text with features [1,dim] of zeros, once per image."""
        return [Reply("", torch.zeros(1, self.settings["dim"]))] * len(images)


class Shuffled:
    """Every image gets the answer to another image: the same texts, none of them about its image.

    The answers are those of another back end, asked and stored under its name, and permuted on each call so that no
    image keeps its own answer. It may get an equal text, though: if that were forbidden, the text would depend on the
    image again (with only two different texts, each would stand for the other).

    Args:
        of: the back end whose answers are shuffled: a name or an object.
        seed: of the permutation, which depends on it and on the number of images only.
        options: of that back end, if `of` is a name.

    Raises:
        FusionError: unknown back end or option.
    """

    def __init__(self, of="rules", seed: int = 0, **options):
        if of == "shuffled" or isinstance(of, Shuffled):
            raise FusionError("of must be a back end that answers, such as rules, but is shuffled itself")
        if not isinstance(of, str) and not hasattr(of, "reply"):
            raise FusionError(f"of must be a back end or its name, but is {of!r}")
        self.base, self.seed = make(of, **options) if isinstance(of, str) else of, seed
        self.model, self.revision, self.encoder = f"shuffled: {self.base.model}", self.base.revision, self.base.encoder
        self.settings = {**self.base.settings, "seed": seed}

    def deal(self, answers: Sequence[Answer]) -> list[Answer]:
        """Give every image another image's answer: the name stays the image's, all else is that of the answer.

        Raises:
            FusionError: fewer than two images.
        """
        if len(answers) < 2:
            raise FusionError("shuffled gives each image the answer to another image and needs at least 2 images, but "
                              f"got {len(answers)}: ask about more images")
        generator, identity = torch.Generator().manual_seed(self.seed), torch.arange(len(answers))
        while ((order := torch.randperm(len(answers), generator=generator)) == identity).any():
            pass  # about one permutation in e has no fixed point, however many images there are
        pairs = zip(answers, order.tolist())
        return [replace(answers[other], name=answer.name, backend="shuffled") for answer, other in pairs]
