"""Training of stage 1, the fusion network (paper section 3.2)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn

from fusionlib.config import Profile
from fusionlib.data.datasets import FusionDataset
from fusionlib.data.pairs import Pair
from fusionlib.data.splits import balanced
from fusionlib.models import weights
from fusionlib.models.fusion_network import FusionNetwork
from fusionlib.models.losses import fusion_loss
from fusionlib.training.trainer import fit, new_optimizer
from fusionlib.utils.errors import FusionError


def new_network(settings: Profile) -> FusionNetwork:
    """An untrained network as the profile says: `channels`, `fusion_block`, `_merge`, `_norm`, `_output`, `_init`."""
    network = FusionNetwork(settings.channels, settings.fusion_block, settings.fusion_merge, settings.fusion_norm,
                            settings.fusion_output)  # fmt: skip
    starts = {"identity": network.init_identity, "maximum": network.init_maximum, "random": lambda: None}
    if settings.fusion_init not in starts:
        raise FusionError(f"fusion_init must be one of {', '.join(starts)}, but is {settings.fusion_init!r}")
    starts[settings.fusion_init]()
    return network


def train_fusion_network(
    train: Sequence[Pair], validation: Sequence[Pair], folder: Path, settings: Profile
) -> FusionNetwork:
    """Stage 1: train the fusion network by the profile's loss; resumes what was interrupted in the same folder.

    Args:
        train: pairs to learn from.
        validation: pairs whose loss is recorded after each epoch; the lowest one chooses best.safetensors.
        folder: receives best.safetensors, last.safetensors, curves.csv and TensorBoard files.
        settings: the profile.

    Returns:
        The network after the last epoch, in evaluation mode.
    """
    if not train or not validation:
        counts = f"{len(train)} and {len(validation)}"
        raise FusionError(
            f"stage 1 needs pairs to train and to validate on, but got {counts}: add a data set with a train part "
            "(data/README.md says which have one)"
        )
    set_seed(settings.seed)
    # In this order of the values in memory, a step takes about two thirds of the time.
    network = new_network(settings).to(memory_format=torch.channels_last)
    loss = fusion_loss(settings.fusion_loss)

    def losses(model: nn.Module, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        return loss(model(batch["ir"], batch["y"]), batch["ir"], batch["y"])

    size = {"resize": settings.fusion_resize, "crop": settings.fusion_crop, "seed": settings.seed,
            "own_size": settings.fusion_own_size}  # fmt: skip
    augmented = {"crops": settings.crops_per_image, "exposure_augmentation": settings.exposure_augmentation,
                 "flat": settings.fusion_flat}  # fmt: skip
    train = balanced(train) if settings.fusion_balanced else train
    fit(
        network, losses, FusionDataset(train, **size, **augmented), FusionDataset(validation, **size, train=False),
        folder, settings, save=weights.save, optimizer=new_optimizer(network, settings.optimizer, settings.fusion_lr),
        epochs=settings.fusion_epochs, batch=settings.fusion_batch, freeze_bn_fraction=settings.freeze_bn_fraction,
        show=lambda model, batch: model(batch["ir"], batch["y"]),
    )  # fmt: skip
    return weights.load(folder / "last.safetensors")
