"""Training of stage 2, Text-DFH under a frozen detector (paper section 3.3)."""

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from accelerate.utils import set_seed
from torch import Tensor

from fusionlib.config import Profile
from fusionlib.data.datasets import DetectionDataset, SliceDataset
from fusionlib.data.image_io import image_size
from fusionlib.data.pairs import Pair
from fusionlib.detection.yolov5 import YOLOv5
from fusionlib.models import weights
from fusionlib.models.fusion_network import FusionNetwork
from fusionlib.models.losses import fusion_loss
from fusionlib.models.text_dfh import TextGuidedFusion
from fusionlib.training.instructions import InstructionDataset, encoded_instructions
from fusionlib.training.objectives import DetectionObjective, FusionObjective, InstructionObjective, refine
from fusionlib.training.restoration import RestorationSamples, damage_pairs
from fusionlib.training.trainer import fit, new_optimizer
from fusionlib.utils.errors import FusionError

RESTORATION_VALIDATION = 24  # damaged copies of validation pairs


def train_text_dfh(
    network: FusionNetwork,
    detector: YOLOv5 | None,
    train: tuple[Sequence[Pair], Sequence[Tensor]],
    validation: tuple[Sequence[Pair], Sequence[Tensor]],
    folder: Path,
    settings: Profile,
    scenes: Sequence[Pair] = (),
    sided: Collection[str] = (),
) -> TextGuidedFusion:
    """Stage 2: train Text-DFH in front of a frozen decoder and a frozen detector.

    The loss is that of YOLOv5 on the refined image in colour, plus fidelity * the loss of stage 1 of its luma; both are
    summed over the batch, so that their balance does not depend on the batch size. Without a detector it is that loss
    alone: the paper fuses medical images (section 4.4.3) without saying what stage 2 learns from where nothing is
    detected.

    Where the profile has `instruction_steps`, Text-DFH then learns to follow instructions and to mend damages, on crops
    and in the folder "instructions"; the detector looks at damaged crops of labelled pairs alone.

    Args:
        network: the fusion network of stage 1; it is frozen.
        detector: a pretrained detector with a class "person"; it is frozen.
        train: pairs, labelled where there is a detector, and the features [L,D] of each pair's answer.
        validation: the same, of other scenes; where there is a detector, the epoch of the lowest loss on them is kept.
        folder: receives best.safetensors, last.safetensors, curves.csv and TensorBoard files.
        settings: the profile.
        scenes: pairs of any kind, with labels or without, that instructions are learned on.
        sided: labels of pairs whose answers say left or right (`store.answers_with_sides`); they are not flipped.

    Returns:
        The network in evaluation mode with the Text-DFH of last.safetensors: of the best epoch, or after instructions.

    Raises:
        FusionError: no pairs, or pairs without the labels that a detector needs.
    """
    if settings.instruction_steps and not scenes:
        raise FusionError("instruction_steps asks for steps on scenes with instructions, but no scenes were given: "
                          "give pairs, with labels or without, or set instruction_steps to 0")
    unlabelled = [pair.name for pair in train[0] if detector and pair.boxes is None]
    if not train[0] or not validation[0] or unlabelled:
        raise FusionError(f"stage 2 needs {'labelled ' if detector else ''}pairs to train and to validate on, but got "
                          f"{len(train[0])} and {len(validation[0])}; without labels: {unlabelled[:3] or 'none'}")
    # Before anything is trained, since it may be impossible.
    instructions = encoded_instructions(train[1][0].shape[1]) if settings.instruction_steps else {}
    set_seed(settings.seed)
    model = TextGuidedFusion(network, train[1][0].shape[1], settings.variant)
    loss = fusion_loss(settings.fusion_loss)
    if detector:
        objective = DetectionObjective(detector, settings.fidelity, loss, settings.dfh_other_classes)
        dataset, size = partial(DetectionDataset, crops=settings.dfh_crops), settings.detect_size
    else:
        objective, dataset = FusionObjective(loss), SliceDataset
        size = tuple(map(max, zip(*(image_size(pair.ir) for pair in (*train[0], *validation[0])))))
    samples = [dataset(pairs, size=size, text=text, seed=settings.seed, train=number == 0, sided=sided)
               for number, (pairs, text) in enumerate((train, validation))]  # fmt: skip
    fit(
        model, objective, *samples, folder, settings, save=weights.save,
        optimizer=new_optimizer(model, settings.optimizer, settings.dfh_lr), epochs=settings.dfh_epochs,
        batch=settings.dfh_batch, reduction="sum" if detector else "mean", show=refine,
        freeze_bn_fraction=settings.freeze_bn_fraction if detector else 1.0,  # batches of slices are largely black
    )  # fmt: skip
    if detector:
        model.harmonise.load_state_dict(weights.load(folder / "best.safetensors", network).harmonise.state_dict())
        weights.save(model, folder / "last.safetensors")
    if settings.instruction_steps:
        crops = {"instructions": instructions, "answers": train[1], "seed": settings.seed,
                 "answer_fraction": settings.instruction_answer_fraction, "resize": max(settings.detect_size),
                 "crop": settings.instruction_crop, "restoration_fraction": settings.restoration_fraction}  # fmt: skip
        damaged = [None, None]
        if settings.restoration_fraction:
            reads = "nothing" if settings.variant == "blind" else settings.restoration_reads
            damaged = [RestorationSamples(damage_pairs(pairs, count, seed, crops["crop"]), crops["crop"], reads)
                       for seed, (pairs, count) in enumerate(((scenes, settings.restoration_pairs),
                                                              (validation[0], RESTORATION_VALIDATION)))]  # fmt: skip
        fit(
            model, InstructionObjective(model, detection=objective if detector else None,
                                        weight=settings.restoration_detection if detector else 0.0),
            InstructionDataset(scenes, **crops, restoration=damaged[0], crops=12,
                               exposure_augmentation=settings.exposure_augmentation),
            InstructionDataset(validation[0], **crops, restoration=damaged[1], crops=4, train=False),
            folder / "instructions", settings,
            save=weights.save, optimizer=new_optimizer(model, settings.optimizer, settings.instruction_lr), epochs=0,
            steps=settings.instruction_steps, batch=settings.instruction_batch, show=refine,
            freeze_bn_fraction=1.0,  # the statistics of whole images, not of crops
        )  # fmt: skip
        weights.save(model, folder / "last.safetensors")
    return weights.load(folder / "last.safetensors", network)
