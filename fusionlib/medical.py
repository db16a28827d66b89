"""Stage 2 where there is no detector: Text-DFH on medical pairs, and what to look at in them.

The paper fuses medical images (section 4.4.3) without saying what its stage 2 learns from where nothing is detected.
Here it learns from the fusion loss of stage 1 alone, on the answers about the images of stage 1; all but Text-DFH is
frozen. So an answer can guide where L_f is still to be lowered, but nothing rewards doing what it advises.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.nn.functional import pad

from fusionlib import models
from fusionlib.config import Profile
from fusionlib.data.augment import augment
from fusionlib.data.pairs import Pair, image_size, load, split_luma
from fusionlib.data.samples import DetectionSamples
from fusionlib.errors import FusionError
from fusionlib.loop import adam, fit
from fusionlib.models import FusionLoss, FusionNetwork, TextGuidedFusion
from fusionlib.plots import region_of

#: What is asked about medical images; the paper's question is about pedestrians, and it names no other.
QUESTION = "To make lesions and tissue easier to tell apart, how can the quality of this image be enhanced?"


def train_text_dfh(
    network: FusionNetwork, train: tuple[Sequence[Pair], Sequence[Tensor]],
    validation: tuple[Sequence[Pair], Sequence[Tensor]], folder: Path, settings: Profile,
) -> TextGuidedFusion:  # fmt: skip
    """Train Text-DFH under L_f of the refined image, as `training.train_text_dfh` does under a detector.

    Args:
        network: the fusion network of stage 1; it is frozen.
        train: pairs, and the features [L,D] of each pair's answer.
        validation: the same, to choose the best epoch.
        folder: receives best.safetensors, last.safetensors, curves.csv and TensorBoard files.
        settings: the profile; what begins with medical_dfh_, and dfh_batch.

    Returns:
        The network with Text-DFH after the last epoch, in evaluation mode.

    Raises:
        FusionError: no pairs.
    """
    if not train[0] or not validation[0]:
        raise FusionError(f"stage 2 needs pairs to train and to validate on, but got {len(train[0])} and "
                          f"{len(validation[0])}: add subjects")
    set_seed(settings.seed)
    model, loss = TextGuidedFusion(network, train[1][0].shape[1], settings.variant), FusionLoss()

    def losses(model: nn.Module, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        ir, y = batch["ir"], split_luma(batch["visible"])[0]
        return loss(model(ir, y, batch["text"], batch["mask"]), ir, y)

    sizes = [image_size(pair.ir) for pair in (*train[0], *validation[0])]
    common = {"size": tuple(map(max, zip(*sizes))), "seed": settings.seed}
    fit(
        model, losses, Slices(train[0], text=train[1], **common),
        Slices(validation[0], text=validation[1], train=False, **common), folder, settings,
        optimizer=adam(model, settings.medical_dfh_lr), epochs=settings.medical_dfh_epochs, batch=settings.dfh_batch,
    )  # fmt: skip
    return models.load(folder / "last.safetensors", network)


class Slices(DetectionSamples):
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


def example(pairs: Sequence[Pair]) -> Pair:
    """The pair worth showing: the one with the largest marked tumour, or the middle one where none is marked."""
    marked = [pair for pair in pairs if pair.boxes is not None and len(pair.boxes)]
    if not marked:
        return pairs[len(pairs) // 2]
    return max(marked, key=lambda pair: float(np.prod(pair.boxes[0, 2:] - pair.boxes[0, :2])))


def region(pair: Pair, share: float = 0.3) -> tuple[float, float, float, float]:
    """What to enlarge: around the marked tumour, or where the second modality is brightest; xyxy in pixels.

    Bright is where FLAIR has swelling and liquid bound in tissue, PET and SPECT have uptake, and CT has bone or blood.

    Args:
        pair: a medical pair.
        share: width and height of the region as a share of the image's.
    """
    height, width = image_size(pair.ir)
    if pair.boxes is not None and len(pair.boxes):
        return region_of(torch.from_numpy(pair.boxes), (height, width), share)
    luma = split_luma(load(pair)[1])[0][0].numpy()
    mean = cv2.blur(luma, (round(share * width), round(share * height)), borderType=cv2.BORDER_CONSTANT)
    y, x = divmod(int(mean.argmax()), width)
    return region_of(torch.tensor([[x, y, x + 1.0, y + 1.0]]), (height, width), share)
