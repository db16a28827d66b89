"""The objectives of stage 2 (paper section 3.3) and of instruction following: (model, batch) -> (total, terms)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fusionlib.data.color import merge_luma, split_luma
from fusionlib.data.datasets import PERSON
from fusionlib.detection.detectors import class_indices
from fusionlib.detection.yolov5 import YOLOv5, freeze
from fusionlib.detection.yolov5_loss import YOLOv5Loss, to_targets
from fusionlib.models.losses import FusionLoss
from fusionlib.models.text_dfh import TextGuidedFusion
from fusionlib.training.instructions import INSTRUCTIONS, RESTORE


def refine(model: nn.Module, batch: dict) -> Tensor:
    """The refined luma [B,1,H,W] of a batch as `collate` makes it, in float32 under any precision."""
    return model(batch["ir"], split_luma(batch["visible"])[0], batch["text"], batch["mask"]).float()


class DetectionObjective:
    """The loss of stage 2: a frozen detector looks at the refined image (paper 3.3), and a fidelity term.

    Both are summed over the images, so that their balance does not depend on how many there are.

    Args:
        detector: with a class "person"; it is frozen.
        fidelity: weight of the loss of stage 1 of the refined image.
        loss: that of stage 1, of which the fidelity is made; None: the paper's.
        other_classes: whether objects of other classes that the detector is sure of count as background, as all that is
            not labelled does in the loss of YOLOv5.
    """

    def __init__(self, detector: YOLOv5, fidelity: float, loss: nn.Module | None = None, other_classes: bool = True):
        self.detector = freeze(detector)
        (self.person,) = class_indices(detector, [PERSON])
        self.loss = YOLOv5Loss(detector.anchors, detector.strides, detector.num_classes,
                               labelled=None if other_classes else [self.person])  # fmt: skip
        self.fusion_loss, self.fidelity = loss or FusionLoss(), fidelity

    def __call__(self, model: nn.Module, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        """A batch as `collate` makes it -> (total, parts)."""
        refined, ir, (y, cbcr) = refine(model, batch), batch["ir"], split_luma(batch["visible"])
        detection, parts = self.detection(merge_luma(refined, cbcr), batch["boxes"], batch["ignore"])
        fidelity, _ = self.fusion_loss(refined, ir, y)
        total = detection + self.fidelity * len(ir) * fidelity
        return total, {"detection": detection.detach() / len(ir), "fidelity": fidelity.detach(), **parts}

    def detection(self, images: Tensor, boxes: Sequence[Tensor], ignore: Sequence[Tensor]
                  ) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
        """The detector's loss, summed over images [B,3,H,W] with people [N,4] and regions to ignore each; its parts."""
        self.detector.to(images.device)
        self.loss.to(images.device)
        classes = [torch.full((len(each),), self.person) for each in boxes]
        targets = to_targets([each.cpu() for each in boxes], images.shape[2:], classes).to(images.device)
        ignored = to_targets([each.cpu() for each in ignore], images.shape[2:]).to(images.device)
        return self.loss(self.detector(images), targets, ignored)


class FusionObjective:
    """A loss of stage 1, of the refined image, where nothing is detected."""

    def __init__(self, loss: nn.Module):
        self.fusion_loss = loss

    def __call__(self, model: nn.Module, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        """A batch as `collate` makes it -> (total, terms)."""
        return self.fusion_loss(refine(model, batch), batch["ir"], split_luma(batch["visible"])[0])


class InstructionObjective:
    """The loss that words are learned by: mean |F - T| + edge * mean |S(F) - S(T)|, S being `sobel`.

    T is what an instruction makes of the image that the same words gave before any instruction was learned. With an
    answer in its place it is that image itself, so that what the detector taught is kept; with words about damages, the
    image that stage 1 makes of the undamaged pair. Where people are labelled, the detector's loss per image is added,
    times `weight`.

    Args:
        model: as it is now; a copy of it makes the images that instructions are about.
        edge: weight of the edges.
        detection: whose detector looks at images with "boxes".
        weight: of the detector's loss.
    """

    def __init__(self, model: TextGuidedFusion, edge: float = 0.1, detection: DetectionObjective | None = None,
                 weight: float = 0.0):  # fmt: skip
        config = model.harmonise["ir"].config
        self.before = TextGuidedFusion(model.network, config["text_dim"], config["variant"]).eval()
        self.before.load_state_dict(model.state_dict())  # no deep copy: accelerate may have wrapped its methods
        self.loss, self.detection, self.weight = FusionLoss(intensity=1.0, edge=edge), detection, weight

    def __call__(self, model: nn.Module, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        """A batch of `InstructionDataset` -> (total, parts)."""
        refined, target = refine(model, batch), self.targets(batch)
        total, _ = self.loss(refined, target, target)  # the larger of the target and itself
        parts = {"instruction": total.detach()}
        if self.weight:
            labelled = [number for number, boxes in enumerate(batch["boxes"]) if boxes is not None]
            detection = refined.new_zeros(())
            if labelled:
                images = merge_luma(refined[labelled], split_luma(batch["visible"][labelled])[1])
                boxes, ignore = ([batch[name][number] for number in labelled] for name in ("boxes", "ignore"))
                detection, _ = self.detection.detection(images, boxes, ignore)
            total = total + self.weight * detection / len(refined)
            parts["detection"] = detection.detach() / len(refined)
        return total, parts

    @torch.no_grad()
    def targets(self, batch: dict) -> Tensor:
        """What the batch asks for: [B,1,H,W] in 0..1."""
        self.before.to(batch["ir"].device)
        names, targets = batch["instruction"], torch.empty_like(batch["ir"])
        if restored := [number for number, name in enumerate(names) if name == RESTORE]:
            y = split_luma(batch["clean_visible"][restored])[0]
            targets[restored] = self.before.network(batch["clean_ir"][restored], y).float()
        if others := [number for number, name in enumerate(names) if name != RESTORE]:
            images = refine(self.before, {key: batch[key][others] for key in ("ir", "visible", "text", "mask")})
            for number, luma in zip(others, images):
                ir, name = batch["ir"][number], names[number]
                targets[number] = INSTRUCTIONS[name].change(luma, ir) if name else luma
        return targets.clamp(0, 1)
