"""What is trained: stage 1 (paper 3.2) and stage 2 (paper 3.3)."""

from collections.abc import Sequence
from pathlib import Path

from accelerate.utils import set_seed
from torch import Tensor, nn

from fusionlib import models
from fusionlib.config import Profile
from fusionlib.data.pairs import Pair
from fusionlib.data.samples import DetectionSamples, FusionSamples, SteeringSamples
from fusionlib.detection import YOLOv5
from fusionlib.errors import FusionError
from fusionlib.loop import adam, fit
from fusionlib.models import FusionLoss, FusionNetwork, TextGuidedFusion
from fusionlib.models.detection_loss import DetectionLosses
from fusionlib.models.steering import SteeredLosses, encoded_instructions


def train_fusion_network(
    train: Sequence[Pair], validation: Sequence[Pair], folder: Path, settings: Profile
) -> FusionNetwork:
    """Stage 1: train the fusion network under L_f; resumes what was interrupted in the same folder.

    Args:
        train: pairs to learn from.
        validation: pairs that choose the best epoch.
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
    network, loss = FusionNetwork(settings.channels), FusionLoss()
    network.pass_on(settings.fusion_start)

    def losses(model: nn.Module, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        return loss(model(batch["ir"], batch["y"]), batch["ir"], batch["y"])

    size = {"resize": settings.fusion_resize, "crop": settings.fusion_crop, "seed": settings.seed}
    fit(
        network, losses,
        FusionSamples(train, **size, crops=settings.fusion_crops, relight=settings.fusion_relight),
        FusionSamples(validation, **size, train=False), folder, settings, settle=settings.settle,
        optimizer=adam(network, settings.fusion_lr), epochs=settings.fusion_epochs, batch=settings.fusion_batch,
    )  # fmt: skip
    return models.load(folder / "last.safetensors")


def train_text_dfh(
    network: FusionNetwork,
    detector: YOLOv5,
    train: tuple[Sequence[Pair], Sequence[Tensor]],
    validation: tuple[Sequence[Pair], Sequence[Tensor]],
    folder: Path,
    settings: Profile,
    scenes: Sequence[Pair] = (),
) -> TextGuidedFusion:
    """Stage 2: train Text-DFH in front of a frozen decoder and a frozen detector.

    The loss is that of YOLOv5 on the refined image in colour, plus fidelity * L_f of its luma; both are summed over
    the batch, so that their balance does not depend on the batch size. Where the profile has `steer_steps`, Text-DFH
    then learns to follow instructions, on crops and without the detector, in the folder's "steering".

    Args:
        network: the fusion network of stage 1; it is frozen.
        detector: a pretrained detector with a class "person"; it is frozen.
        train: labelled pairs, and the features [L,D] of each pair's answer.
        validation: the same, to choose the best epoch.
        folder: receives best.safetensors, last.safetensors, curves.csv and TensorBoard files.
        settings: the profile.
        scenes: pairs of any kind, with labels or without, that instructions are learned on.

    Returns:
        The network with Text-DFH after the last epoch, in evaluation mode.
    """
    if settings.steer_steps and not scenes:
        raise FusionError("steer_steps asks for steps on scenes with instructions, but no scenes were given: give "
                          "pairs, with labels or without, or set steer_steps to 0")
    unlabelled = [p.name for p in train[0] if p.boxes is None]
    if not train[0] or not validation[0] or unlabelled:
        raise FusionError(f"stage 2 needs labelled pairs to train and to validate on; without labels: {unlabelled[:3]}")
    # Before anything is trained, since it may be impossible.
    instructions = encoded_instructions(train[1][0].shape[1]) if settings.steer_steps else {}
    set_seed(settings.seed)
    model = TextGuidedFusion(network, train[1][0].shape[1], settings.variant)
    size = {"size": settings.detect_size, "seed": settings.seed}
    fit(
        model, DetectionLosses(detector, settings.fidelity), DetectionSamples(train[0], text=train[1], **size),
        DetectionSamples(validation[0], text=validation[1], train=False, **size), folder, settings,
        optimizer=adam(model, settings.dfh_lr), epochs=settings.dfh_epochs, batch=settings.dfh_batch,
        settle=settings.settle,
    )  # fmt: skip
    if settings.steer_steps:
        crops = {"instructions": instructions, "answers": train[1], "keep": settings.steer_keep,
                 "resize": max(settings.detect_size), "crop": settings.steer_crop, "seed": settings.seed}  # fmt: skip
        fit(
            model, SteeredLosses(model), SteeringSamples(scenes, **crops, crops=12, relight=settings.fusion_relight),
            SteeringSamples(validation[0], **crops, crops=4, train=False), folder / "steering", settings,
            optimizer=adam(model, settings.steer_lr), epochs=0, steps=settings.steer_steps, batch=settings.steer_batch,
            settle=1.0,  # the statistics of whole images, not of crops
        )  # fmt: skip
        models.save(model, folder / "last.safetensors")
    return models.load(folder / "last.safetensors", network)
