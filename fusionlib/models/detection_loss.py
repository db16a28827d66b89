"""The loss of stage 2 (paper section 3.3)."""

import torch
from torch import Tensor, nn

from fusionlib.data.pairs import merge_luma, split_luma
from fusionlib.data.samples import PERSON
from fusionlib.detection import YOLOv5, YOLOv5Loss, class_indices, freeze, to_targets
from fusionlib.distributed import replicas
from fusionlib.models.fusion_loss import FusionLoss
from fusionlib.models.text_dfh import refine


class DetectionLosses:
    """The loss of stage 2: a frozen detector looks at the refined image (paper 3.3), and a fidelity term."""

    def __init__(self, detector: YOLOv5, fidelity: float):
        self.detector = freeze(detector)
        self.loss = YOLOv5Loss(detector.anchors, detector.strides, detector.num_classes)
        self.fusion_loss, self.fidelity = FusionLoss(), fidelity
        (self.person,) = class_indices(detector, [PERSON])

    def __call__(self, model: nn.Module, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        """A batch as `collate` makes it -> (total, parts)."""
        refined, ir, (y, cbcr) = refine(model, batch), batch["ir"], split_luma(batch["visible"])
        self.detector.to(ir.device)
        self.loss.to(ir.device)
        classes = [torch.full((len(boxes),), self.person) for boxes in batch["boxes"]]
        targets = to_targets([b.cpu() for b in batch["boxes"]], ir.shape[2:], classes).to(ir.device)
        detection, parts = self.loss(self.detector(merge_luma(refined, cbcr)), targets)
        fidelity, _ = self.fusion_loss(refined, ir, y)
        count = len(ir) * replicas()
        total = detection + self.fidelity * count * fidelity
        return total, {"detection": detection.detach() / count, "fidelity": fidelity.detach(), **parts}
