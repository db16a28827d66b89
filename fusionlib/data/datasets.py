"""Torch data sets of pairs: crops for stage 1, whole images with boxes and text features for stage 2."""

import warnings
from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from fusionlib.data.annotations import IGNORE, PERSON
from fusionlib.data.augment import augment, random_exposure, random_levels
from fusionlib.data.color import split_luma
from fusionlib.data.image_io import image_size
from fusionlib.data.pairs import Pair, load
from fusionlib.utils.errors import FusionError

CROP_SCALES = 0.5, 1.5  # of the pair's own size, that crops for stage 2 are cut from
CROP_ANGLE = 5.0  # the largest in degrees by which they are turned: a frozen detector knows people who stand upright
CROP_TRIES = 4  # to find a crop that shows a person


class PairDataset(Dataset):
    """Base of all data sets: caches decoded images as bytes, and augments by seed, epoch and index alone.

    The training loop sets `epoch`, so that a resumed run sees the same samples as an uninterrupted one.
    """

    collate: Callable[[list[dict]], dict] | None = None  # None: torch's default_collate

    def __init__(self, pairs: Sequence[Pair], seed: int, train: bool, memory: int = 4 << 30):
        self.pairs, self.seed, self.train, self.epoch = list(pairs), seed, train, 0
        self.memory, self.cache = memory, {}

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """A sample; if an image can no longer be read, warns and returns the next readable sample.

        Raises FusionError where none can be read.
        """
        for other in range(index, index + len(self)):
            try:
                return self.sample(other % len(self))
            except FusionError as error:
                warnings.warn(f"{error}. Another pair replaces it in this training", stacklevel=2)
        raise FusionError(f"none of {len(self.pairs)} pairs can be read any more: check that their folder still exists")

    def sample(self, index: int) -> dict[str, Tensor]:
        """The training sample of an index."""
        raise NotImplementedError

    def seed_of(self, index: int) -> int:
        """The seed of the augmentation of a sample in this epoch."""
        return int(np.random.SeedSequence([self.seed, self.epoch, index]).generate_state(1)[0])

    def images(self, index: int, read: Callable[[Pair], Sequence[Tensor]]) -> tuple[Tensor, Tensor]:
        """Infrared [1,H,W] and visible [3,H,W] in 0..1 of a pair, see `stored`."""
        both = self.stored(index, read) / 255
        return both[:1], both[1:]

    def stored(self, index: int, read: Callable[[Pair], Sequence[Tensor]]) -> Tensor:
        """The images in 0..1 that `read` returns for a pair, joined, as bytes [C,H,W], cached up to `memory` bytes."""
        pair = self.pairs[index]
        files = pair.ir, pair.visible  # not the index: `splits.balanced` repeats pairs
        both = self.cache.get(files)
        if both is None:
            both = torch.cat(read(pair)).mul(255).round().byte()
            if sum(t.numel() for t in self.cache.values()) + both.numel() <= self.memory:
                self.cache[files] = both
        return both


class FusionDataset(PairDataset):
    """Crops for stage 1 and for the compared methods: {"ir": [1,h,w], "y": [1,h,w], "visible": [3,h,w]} in 0..1.

    Larger images are reduced to a longer side of `resize` pixels before a square of `crop` pixels is cut out. `train`
    augments by flips, quarter turns and random crops (paper 4.1); without it, the crop is the same in every epoch. An
    epoch has `crops` crops of each pair, in rounds over all pairs. Of the training crops, a share of `own_size` is cut
    out of the image at its own size, in a share of `exposure_augmentation` the two images get another exposure each,
    and a share of `flat` is replaced by `random_levels`.
    """

    def __init__(self, pairs: Sequence[Pair], resize: int, crop: int, seed: int = 0, train: bool = True, crops: int = 1,
                 exposure_augmentation: float = 0.0, flat: float = 0.0, own_size: float = 0.0):
        super().__init__(pairs, seed, train)
        self.resize, self.crop, self.crops, self.own_size = resize, crop, crops, own_size
        self.exposure_augmentation, self.flat = exposure_augmentation, flat

    def __len__(self) -> int:
        return len(self.pairs) * self.crops

    def sample(self, index: int) -> dict[str, Tensor]:
        """A crop."""
        number = index % len(self.pairs)
        both = self.stored(number, load if self.own_size else self._reduced)
        seed = self.seed_of(index) if self.train else index
        draw, crop = np.random.default_rng(seed), self.crop
        if self.own_size and not (self.train and draw.random() < self.own_size):
            crop = round(crop * max(1, max(both.shape) / self.resize))
        if min(both.shape[1:]) < crop:
            both = both / 255  # to be enlarged
        else:  # cut bytes, before flips and turns: they would copy the whole image
            top, left = (int(draw.random() * (side - crop + 1)) for side in both.shape[1:])
            both = both[:, top : top + crop, left : left + crop]
        rotate = "quarter" if self.train else 0
        images = augment(both[:1], both[1:], None, seed=seed, crop=crop, flip=self.train, rotate=rotate)[:2]
        ir, visible = (image if image.is_floating_point() else image / 255 for image in images)
        if crop > self.crop:
            ir, visible = (interpolate(image[None], self.crop, mode="bilinear", antialias=True)[0]
                           for image in (ir, visible))
        if self.train and draw.random() < self.exposure_augmentation:
            ir, visible = (random_exposure(image, draw.integers(2**31)) for image in (ir, visible))
        if self.train and self.flat and draw.random() < self.flat:
            levels = random_levels(draw.integers(2**31))
            ir, visible = (torch.full_like(image, level) for image, level in zip((ir, visible), levels))
        return {"ir": ir, "y": split_luma(visible)[0], "visible": visible, "name": self.pairs[number].label}

    def _reduced(self, pair):
        return resize_longer_side(*load(pair), self.resize)


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
        "ignore": [s.get("ignore", torch.zeros(0, 4)) for s in samples],
        "instruction": [s.get("instruction", "") for s in samples],
        "name": [s["name"] for s in samples],
    }


class DetectionDataset(PairDataset):
    """Whole images with the boxes of people, regions to ignore and text features, for stage 2.

    `pairs` are labelled; `size` is the (H, W) of all samples, see `letterbox`; `text` holds the features [L,D] of each
    pair's answer, in the order of pairs. `train` augments by flips and, in a share `crops` of the samples, by crops of
    that size, cut from the pair at .5 to 1.5 times its own size and turned by up to five degrees (paper 4.1). Pairs
    whose labels are in `sided`, because their answers say left or right, are shown as they are.
    """

    collate = staticmethod(collate)

    def __init__(self, pairs: Sequence[Pair], size: tuple[int, int], text: Sequence[Tensor], seed: int = 0,
                 train: bool = True, sided: Collection[str] = (), crops: float = 0.0):
        super().__init__(pairs, seed, train)
        self.size, self.text, self.sided, self.crops = size, text, sided, crops if train else 0.0

    def augmented(self, index: int, ir: Tensor, visible: Tensor, boxes: Tensor | None) -> tuple:
        """The images and boxes of a pair, flipped at random in training."""
        flip = self.train and self.pairs[index].label not in self.sided
        return augment(ir, visible, boxes, seed=self.seed_of(index), crop=None, flip=flip, rotate=0)

    def sample(self, index: int) -> dict[str, Tensor]:
        """A whole image, or a crop."""
        pair, draw = self.pairs[index], np.random.default_rng([self.seed_of(index), 1])
        each = people(pair), ignored(pair)
        boxes = torch.cat([pad(of, (0, 1), value=kind) for kind, of in enumerate(each)])
        if draw.random() < self.crops and pair.label not in self.sided:
            ir, visible, boxes = self._crop(index, boxes, draw)
        else:
            boxes[:, :4] *= letterbox_scale(image_size(pair.ir), self.size)
            ir, visible, boxes = self.augmented(index, *self._whole(index), boxes)
        shown, ignore = (boxes[boxes[:, 4] == kind, :4] for kind in range(2))
        return {"ir": ir, "visible": visible, "boxes": shown, "ignore": ignore, "text": self.text[index],
                "name": pair.label}

    def _whole(self, index):
        if self.crops:  # which are cut from the pair at its own size, so that is what is cached
            both = letterbox(self.stored(index, load) / 255, self.size)[0]
            return both[:1], both[1:]
        return self.images(index, lambda pair: letterbox(torch.cat(load(pair)), self.size)[:1])

    def _crop(self, index, boxes, draw):
        scale = draw.uniform(*CROP_SCALES)
        both = resize(self.stored(index, load) / 255, scale)
        boxes = torch.cat([boxes[:, :4] * scale, boxes[:, 4:]], 1)
        for _ in range(CROP_TRIES):
            ir, visible, moved = augment(both[:1], both[1:], boxes, seed=draw.integers(2**31), crop=self.size,
                                         rotate=CROP_ANGLE)  # fmt: skip
            if (moved[:, 4] == 0).any() or not (boxes[:, 4] == 0).any():
                break
        return ir, visible, moved


class SliceDataset(DetectionDataset):
    """Whole images with text features and without boxes; images smaller than `size` are padded with black."""

    def sample(self, index: int) -> dict[str, Tensor]:
        """A whole slice."""
        ir, visible, _ = self.augmented(index, *self.images(index, load), None)
        margin = (0, self.size[1] - ir.shape[2], 0, self.size[0] - ir.shape[1])
        return {"ir": pad(ir, margin), "visible": pad(visible, margin), "boxes": torch.zeros(0, 4),
                "text": self.text[index], "name": self.pairs[index].label}


def people(pair: Pair, size: tuple[int, int] | None = None) -> Tensor:
    """Boxes of the people in a labelled pair, [N,4] xyxy in pixels of the file, or of the letterbox of `size`."""
    return _boxes(pair, PERSON, size)


def ignored(pair: Pair, size: tuple[int, int] | None = None) -> Tensor:
    """Regions of a labelled pair in which a detection is neither right nor wrong, [N,4] as those of `people`."""
    return _boxes(pair, IGNORE, size)


def _boxes(pair, name, size):
    boxes = torch.from_numpy(pair.boxes[[c == name for c in pair.classes]]).float().reshape(-1, 4)
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
    """The factor that fits an image of one (H, W) into another at the same aspect ratio."""
    return min(to_size[0] / from_size[0], to_size[1] / from_size[1])


def letterbox(image: Tensor, size: tuple[int, int]) -> tuple[Tensor, float]:
    """Resize [C,H,W] into (H, W) at the same aspect ratio and replicate the right and bottom edge; also the factor."""
    scale = letterbox_scale(image.shape[1:], size)
    image = resize(image, scale)[None]
    return pad(image, (0, size[1] - image.shape[3], 0, size[0] - image.shape[2]), mode="replicate")[0], scale


def resize_longer_side(ir: Tensor, visible: Tensor, longer: int) -> tuple[Tensor, Tensor]:
    """Reduce a pair to a longer side of `longer` pixels; a smaller pair is returned as it is."""
    scale = longer / max(ir.shape[1:])
    if scale >= 1:
        return ir, visible
    both = resize(torch.cat([ir, visible]), scale)
    return both[:1], both[1:]


def resize(image: Tensor, scale: float) -> Tensor:
    """[C,H,W] by a factor, bilinear with antialiasing, clipped to 0..1."""
    if scale == 1:
        return image
    size = [max(1, round(n * scale)) for n in image.shape[1:]]
    return interpolate(image[None], size, mode="bilinear", antialias=True, align_corners=False)[0].clamp(0, 1)
