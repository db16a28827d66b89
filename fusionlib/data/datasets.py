"""Torch data sets over pairs, for stage 1 (crops) and stage 2 (whole images with boxes and text)."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from fusionlib.data.augment import augment, random_exposure
from fusionlib.data.color import split_luma
from fusionlib.data.image_io import image_size
from fusionlib.data.pairs import Pair, load
from fusionlib.utils.errors import FusionError

PERSON = "person"


class PairDataset(Dataset):
    """What both stages share: decoded images stay in memory as bytes, augmentation depends on seed, epoch and index.

    `epoch` is set by the training loop, so that a resumed run sees the images that an uninterrupted one sees.
    """

    collate: Callable[[list[dict]], dict] | None = None  # None: torch's own way to make a batch of samples

    def __init__(self, pairs: Sequence[Pair], seed: int, train: bool, memory: int = 4 << 30):
        self.pairs, self.seed, self.train, self.epoch = list(pairs), seed, train, 0
        self.memory, self.cache = memory, {}

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """A sample; where a picture cannot be read any more, a warning that names it, and the next sample that can.

        Raises:
            FusionError: none of them can be read.
        """
        for other in range(index, index + len(self)):
            try:
                return self.sample(other % len(self))
            except FusionError as error:
                warnings.warn(f"{error}. Another pair takes its place in this training", stacklevel=2)
        raise FusionError(f"none of {len(self.pairs)} pairs can be read any more: look whether their folder is there")

    def sample(self, index: int) -> dict[str, Tensor]:
        """What a training sees of a pair."""
        raise NotImplementedError

    def seed_of(self, index: int) -> int:
        """The seed of this sample's augmentation in this epoch."""
        return int(np.random.SeedSequence([self.seed, self.epoch, index]).generate_state(1)[0])

    def images(self, index: int, read: Callable[[Pair], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Infrared [1,H,W] and visible [3,H,W] in 0..1 of a pair, read once as long as memory allows."""
        if index not in self.cache:
            both = torch.cat(read(self.pairs[index])).mul(255).round().byte()
            if sum(t.numel() for t in self.cache.values()) + both.numel() > self.memory:
                return both[:1] / 255, both[1:] / 255
            self.cache[index] = both
        both = self.cache[index] / 255
        return both[:1], both[1:]


class FusionDataset(PairDataset):
    """Crops for stage 1 and for the compared methods: {"ir": [1,h,w], "y": [1,h,w], "visible": [3,h,w]} in 0..1.

    Args:
        pairs: the pairs.
        resize: longer side that larger images are reduced to, pixels.
        crop: side of the square crop, pixels.
        seed: of the augmentation (flip, quarter turn, crop: paper 4.1).
        train: augment; otherwise the crop is the same in every epoch.
        crops: of each pair in an epoch, the second of all pairs after the first of all pairs.
        exposure_augmentation: share of training crops whose two images get another exposure each.
    """

    def __init__(
        self, pairs: Sequence[Pair], resize: int, crop: int, seed: int = 0, train: bool = True, crops: int = 1,
        exposure_augmentation: float = 0.0,
    ):  # fmt: skip
        super().__init__(pairs, seed, train)
        self.resize, self.crop, self.crops = resize, crop, crops
        self.exposure_augmentation = exposure_augmentation

    def __len__(self) -> int:
        return len(self.pairs) * self.crops

    def sample(self, index: int) -> dict[str, Tensor]:
        """A crop."""
        ir, visible = self.images(index % len(self.pairs), lambda pair: resize_longer_side(*load(pair), self.resize))
        seed = self.seed_of(index) if self.train else index
        ir, visible, _ = augment(
            ir, visible, None, seed=seed, crop=self.crop, flip=self.train, rotate="quarter" if self.train else 0
        )
        draw = np.random.default_rng(seed)
        if self.train and draw.random() < self.exposure_augmentation:
            ir, visible = (random_exposure(image, draw.integers(2**31)) for image in (ir, visible))
        name = self.pairs[index % len(self.pairs)].label
        return {"ir": ir, "y": split_luma(visible)[0], "visible": visible, "name": name}


def collate(samples: list[dict]) -> dict[str, Tensor | list[Tensor]]:
    """A batch of samples with text: images stacked, text padded to [B,L,D] with mask [B,L], others as lists."""
    text = [s["text"].float() for s in samples]
    lengths = torch.tensor([len(t) for t in text])
    return {
        "ir": torch.stack([s["ir"] for s in samples]),
        "visible": torch.stack([s["visible"] for s in samples]),
        "text": pad_sequence(text, batch_first=True),
        "mask": torch.arange(int(lengths.max()))[None] < lengths[:, None],
        "boxes": [s["boxes"] for s in samples],
        "instruction": [s.get("instruction", "") for s in samples],
        "name": [s["name"] for s in samples],
    }


class DetectionDataset(PairDataset):
    """Whole images with the boxes of people and the text's features, for stage 2.

    Args:
        pairs: labelled pairs.
        size: (H, W) of all samples; images keep their aspect ratio, the rest is filled at the right and the bottom.
        text: features [L,D] of each pair's answer, in the order of pairs.
        seed: of the augmentation (flip).
        train: augment.
    """

    collate = staticmethod(collate)

    def __init__(
        self, pairs: Sequence[Pair], size: tuple[int, int], text: Sequence[Tensor], seed: int = 0, train: bool = True
    ):
        super().__init__(pairs, seed, train)
        self.size, self.text = size, text

    def sample(self, index: int) -> dict[str, Tensor]:
        """A whole image."""
        ir, visible = self.images(index, lambda pair: letterbox(*load(pair), self.size)[:2])
        boxes = people(self.pairs[index], self.size)
        if self.train:
            ir, visible, boxes = augment(ir, visible, boxes, seed=self.seed_of(index), crop=None, flip=True, rotate=0)
        label = self.pairs[index].label
        return {"ir": ir, "visible": visible, "boxes": boxes, "text": self.text[index], "name": label}


def people(pair: Pair, size: tuple[int, int] | None = None) -> Tensor:
    """Boxes of the people in a labelled pair, [N,4] xyxy in pixels of the file, or of what `letterbox` makes of it."""
    boxes = torch.from_numpy(pair.boxes[[c == PERSON for c in pair.classes]]).float().reshape(-1, 4)
    return boxes if size is None else boxes * letterbox_scale(image_size(pair.ir), size)


def people_heights(pairs: Sequence[Pair]) -> dict[str, list[float]]:
    """Heights of all labelled people in pixels of the file, per data set."""
    heights = {}
    for pair in pairs:
        if pair.boxes is not None:
            boxes = people(pair)
            heights.setdefault(pair.dataset, []).extend((boxes[:, 3] - boxes[:, 1]).tolist())
    return heights


def letterbox_scale(from_size: tuple[int, int], to_size: tuple[int, int]) -> float:
    """The factor by which an image of one (H, W) fits into another without changing its aspect ratio."""
    return min(to_size[0] / from_size[0], to_size[1] / from_size[1])


def letterbox(ir: Tensor, visible: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, float]:
    """Resize a pair into (H, W), aspect ratio kept, the last row and column repeated to fill; and the factor used."""
    scale = letterbox_scale(ir.shape[1:], size)
    both = resize(torch.cat([ir, visible]), scale)[None]
    fill = (0, size[1] - both.shape[3], 0, size[0] - both.shape[2])
    both = pad(both, fill, mode="replicate")[0]
    return both[:1], both[1:], scale


def resize_longer_side(ir: Tensor, visible: Tensor, longer: int) -> tuple[Tensor, Tensor]:
    """Reduce a pair to a longer side of that many pixels; a smaller pair stays as it is."""
    scale = longer / max(ir.shape[1:])
    if scale >= 1:
        return ir, visible
    both = resize(torch.cat([ir, visible]), scale)
    return both[:1], both[1:]


def resize(image: Tensor, scale: float) -> Tensor:
    """[C,H,W] by a factor, bilinear with antialiasing, kept in 0..1."""
    if scale == 1:
        return image
    size = [max(1, round(n * scale)) for n in image.shape[1:]]
    return interpolate(image[None], size, mode="bilinear", antialias=True, align_corners=False)[0].clamp(0, 1)


class SliceDataset(DetectionDataset):
    """Whole images with the features of the answer and no boxes; smaller ones than `size` get a black margin."""

    def sample(self, index: int) -> dict[str, Tensor]:
        """A whole slice."""
        ir, visible = self.images(index, load)
        if self.train:
            ir, visible, _ = augment(ir, visible, None, seed=self.seed_of(index), crop=None, flip=True, rotate=0)
        margin = (0, self.size[1] - ir.shape[2], 0, self.size[0] - ir.shape[1])
        ir, visible = pad(ir, margin), pad(visible, margin)
        return {"ir": ir, "visible": visible, "boxes": torch.zeros(0, 4), "text": self.text[index],
                "name": self.pairs[index].label}  # fmt: skip
