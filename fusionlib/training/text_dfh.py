"""Training of stage 2, Text-DFH under a frozen detector (paper section 3.3)."""

from collections.abc import Sequence
from pathlib import Path

from accelerate.utils import set_seed
from torch import Tensor

from fusionlib.config import Profile
from fusionlib.data.datasets import DetectionDataset
from fusionlib.data.pairs import Pair
from fusionlib.detection.yolov5 import YOLOv5
from fusionlib.models import weights
from fusionlib.models.fusion_network import FusionNetwork
from fusionlib.models.text_dfh import TextGuidedFusion
from fusionlib.training.instructions import InstructionDataset, encoded_instructions
from fusionlib.training.objectives import DetectionObjective, InstructionObjective
from fusionlib.training.trainer import adam, fit
from fusionlib.utils.errors import FusionError


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
        model, DetectionObjective(detector, settings.fidelity), DetectionDataset(train[0], text=train[1], **size),
        DetectionDataset(validation[0], text=validation[1], train=False, **size), folder, settings,
        optimizer=adam(model, settings.dfh_lr), epochs=settings.dfh_epochs, batch=settings.dfh_batch,
        settle=settings.settle,
    )  # fmt: skip
    if settings.steer_steps:
        crops = {"instructions": instructions, "answers": train[1], "keep": settings.steer_keep,
                 "resize": max(settings.detect_size), "crop": settings.steer_crop, "seed": settings.seed}  # fmt: skip
        fit(
            model, InstructionObjective(model),
            InstructionDataset(scenes, **crops, crops=12, relight=settings.fusion_relight),
            InstructionDataset(validation[0], **crops, crops=4, train=False), folder / "steering", settings,
            optimizer=adam(model, settings.steer_lr), epochs=0, steps=settings.steer_steps, batch=settings.steer_batch,
            settle=1.0,  # the statistics of whole images, not of crops
        )  # fmt: skip
        weights.save(model, folder / "last.safetensors")
    return weights.load(folder / "last.safetensors", network)
