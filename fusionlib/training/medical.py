"""Stage 2 where there is no detector: Text-DFH on medical pairs, and what to look at in them.

The paper fuses medical images (section 4.4.3) without saying what its stage 2 learns from where nothing is detected.
Here it learns from the fusion loss of stage 1 alone, on the answers about the images of stage 1; all but Text-DFH is
frozen. So an answer can guide where L_f is still to be lowered, but nothing rewards doing what it advises.
"""

from collections.abc import Sequence
from pathlib import Path

from accelerate.utils import set_seed
from torch import Tensor, nn

from fusionlib.config import Profile
from fusionlib.data.color import split_luma
from fusionlib.data.datasets import SliceDataset
from fusionlib.data.image_io import image_size
from fusionlib.data.pairs import Pair
from fusionlib.models import weights
from fusionlib.models.fusion_network import FusionNetwork
from fusionlib.models.losses import FusionLoss
from fusionlib.models.text_dfh import TextGuidedFusion
from fusionlib.training.trainer import adam, fit
from fusionlib.utils.errors import FusionError

#: What is asked about medical images; the paper's question is about pedestrians, and it names no other.
QUESTION = "To make lesions and tissue easier to tell apart, how can the quality of this image be enhanced?"


def train_text_dfh_without_detector(
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
        model, losses, SliceDataset(train[0], text=train[1], **common),
        SliceDataset(validation[0], text=validation[1], train=False, **common), folder, settings,
        optimizer=adam(model, settings.medical_dfh_lr), epochs=settings.medical_dfh_epochs, batch=settings.dfh_batch,
    )  # fmt: skip
    return weights.load(folder / "last.safetensors", network)
