"""The training loss of the classic YOLOv5: CIoU box, objectness and class terms on static anchor matches.

Written from a description of the official training code (ultralytics/yolov5 v7.0), whose values it reproduces. The
loss of `yolov5u` and YOLOv8 (no anchors, no objectness, task-aligned assignment) is a different one.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import one_hot
from torchvision.ops import box_convert, complete_box_iou_loss

from fusionlib.utils.distributed import weight_of
from fusionlib.utils.errors import FusionError

#: Gains of the three terms and the largest ratio of sides at which an anchor still matches (official `scratch-low`).
HYP = {"box": 0.05, "obj": 1.0, "cls": 0.5, "anchor_t": 4.0}

CONFIDENT = 0.25  # objectness times class probability from which an object counts as seen, as in YOLOv5's detection

_BALANCE = (4.0, 1.0, 0.4)  # objectness weights of the strides 8, 16, 32


def scale_hyp(num_classes: int, image_size: int, hyp: dict | None = None) -> dict:
    """Gains as the official training scales them: class by num_classes / 80, objectness by (image_size / 640)^2.

    Args:
        num_classes: of the detector.
        image_size: longer side of the training images in pixels.
        hyp: gains that differ from HYP.
    """
    hyp = {**HYP, **(hyp or {})}
    return {**hyp, "cls": hyp["cls"] * num_classes / 80, "obj": hyp["obj"] * (image_size / 640) ** 2}


def to_targets(boxes: Sequence[torch.Tensor], size: tuple[int, int],
               classes: Sequence[torch.Tensor] | None = None) -> torch.Tensor:
    """Convert the boxes of a batch to the targets of YOLOv5Loss.

    Args:
        boxes: per image [N, 4] x1, y1, x2, y2 in pixels.
        size: height and width of the images in pixels.
        classes: per image [N] class indices; 0 by default.

    Returns:
        [n, 6] float32: image index, class, centre x, y, width, height, the last four in fractions of the image size.
    """
    height, width = size
    rows = []
    for image, xyxy in enumerate(boxes):
        xyxy = torch.as_tensor(xyxy, dtype=torch.float32).reshape(-1, 4)
        xywh = box_convert(xyxy, "xyxy", "cxcywh") / xyxy.new_tensor((width, height, width, height))
        label = xyxy.new_zeros(len(xyxy)) if classes is None else torch.as_tensor(classes[image]).to(xyxy)
        rows.append(torch.cat((torch.full_like(xywh[:, :1], image), label.view(-1, 1), xywh), 1))
    return torch.cat(rows) if rows else torch.zeros(0, 6)


class YOLOv5Loss(nn.Module):
    """Classic YOLOv5 training loss, (box + objectness + class) * batch size.

    `loss(maps, targets)` takes the network's three raw maps [B, 3, h, w, 5 + num_classes] and targets [n, 6] (image,
    class, x, y, w, h in fractions of the image size) and returns the scalar total and the detached terms
    {"box", "obj", "cls"}: with their gains, without the factor of the batch size. Computed in float32 for maps of any
    precision. With one class the class term is 0; without targets only the objectness term remains. In cells whose
    centre lies in one of the regions `ignore` [k, 6], rows as of targets, objectness costs nothing unless a target is
    matched there: nobody knows who else is there (ours).

    Args:
        anchors: [3, 3, 2] width and height in pixels.
        strides: pixels per cell of each map.
        hyp: gains that differ from HYP, already scaled (see `scale_hyp` for the official scaling).
        labelled: the classes that targets can have, if not all: where the maps show an object of another class with a
            confidence of `CONFIDENT` or more, objectness costs nothing either, since such an object is there without a
            target (ours).
    """

    def __init__(self, anchors, strides: Sequence[int], num_classes: int, hyp: dict | None = None,
                 labelled: Sequence[int] | None = None):
        super().__init__()
        anchors = torch.as_tensor(anchors, dtype=torch.float32).reshape(3, 3, 2)
        self.register_buffer("anchors", anchors / anchors.new_tensor(strides).view(3, 1, 1), persistent=False)
        self.num_classes = num_classes
        self.hyp = {**HYP, **(hyp or {})}
        self.others = [] if labelled is None else sorted(set(range(num_classes)) - set(labelled))

    def forward(self, maps: list[torch.Tensor], targets: torch.Tensor,
                ignore: torch.Tensor | None = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Maps 3 x [B, 3, h, w, 5 + num_classes] and targets [n, 6] -> (total, {"box", "obj", "cls"})."""
        targets = targets.to(maps[0].device, torch.float32)
        if targets.ndim != 2 or targets.shape[1] != 6:
            raise FusionError(f"YOLOv5Loss takes targets [n, 6] (image, class, x, y, w, h), found "
                              f"{list(targets.shape)}: see to_targets.")
        if len(targets) and not 0 <= targets[:, 1].min() <= targets[:, 1].max() < self.num_classes:
            raise FusionError(f"YOLOv5Loss of {self.num_classes} classes takes class indices up to "
                              f"{self.num_classes - 1}, found {sorted(set(targets[:, 1].int().tolist()))}.")
        maps = [raw.float() for raw in maps]
        box, obj, cls = (maps[0].new_zeros(()) for _ in range(3))
        for raw, anchors, balance in zip(maps, self.anchors.to(maps[0].device), _BALANCE):
            wanted = torch.zeros_like(raw[..., 4])
            cells, label, anchor_wh, truth = self.match(raw.shape[2:4], anchors, targets)
            weight = weight_of(len(label), raw.device)
            if len(label):
                p = raw[cells]  # [n, 5 + num_classes]
                centre = 2 * p[:, :2].sigmoid() - 0.5
                size = (2 * p[:, 2:4].sigmoid()) ** 2 * anchor_wh
                pred = torch.cat((centre, size), 1)
                loss = complete_box_iou_loss(box_convert(pred, "cxcywh", "xyxy"), box_convert(truth, "cxcywh", "xyxy"))
                box = box + weight * loss.mean()
                wanted[cells] = (1 - loss.detach()).clamp(min=0)
                if self.num_classes > 1:
                    cls = cls + weight * bce(p[:, 5:], one_hot(label, self.num_classes).to(p))
            obj = obj + balance * bce(raw[..., 4], wanted, self.counted(raw, cells, ignore))
        box, obj, cls = self.hyp["box"] * box, self.hyp["obj"] * obj, self.hyp["cls"] * cls
        terms = {"box": box.detach(), "obj": obj.detach(), "cls": cls.detach()}
        return (box + obj + cls) * len(maps[0]), terms

    @torch.no_grad()
    def counted(self, raw: torch.Tensor, cells: tuple[torch.Tensor, ...], ignore: torch.Tensor | None):
        """The weight of the objectness of each cell and anchor of a map, 0 or 1, [B, 3, h, w]; None where all count."""
        weight = torch.ones_like(raw[..., 4])
        if ignore is not None and len(ignore):
            image, _, *box = ignore.to(raw.device, torch.float32).T[..., None]
            x, y = ((torch.arange(side, device=raw.device) + 0.5) / side for side in raw.shape[3:1:-1])
            inside_x, inside_y = (((at - box[i]).abs() <= box[i + 2] / 2).float() for i, at in enumerate((x, y)))
            inside = inside_y[:, :, None] * inside_x[:, None]  # [k, h, w]
            regions = torch.zeros_like(weight[:, 0]).index_add(0, image.flatten().long(), inside)
            weight[(regions > 0)[:, None].expand_as(weight)] = 0
        elif not self.others:
            return None
        if self.others:
            score, best = raw[..., 5:].max(-1)
            confident = raw[..., 4].sigmoid() * score.sigmoid() >= CONFIDENT
            weight[confident & torch.isin(best, torch.tensor(self.others, device=raw.device))] = 0
        weight[cells] = 1
        return weight

    def match(self, size: Sequence[int], anchors: torch.Tensor, targets: torch.Tensor):
        """Match targets to the cells and anchors of one map.

        An anchor matches if no side differs by a factor of anchor_t or more; there is no best-anchor rule. Besides the
        cell of the target's centre, its nearest horizontal and vertical neighbours match as well.

        Args:
            size: height and width of the map in cells.
            anchors: [3, 2] in cells.
            targets: [n, 6] as in forward.

        Returns:
            (image, anchor, row, column) index tensors [m]; class [m]; matched anchor [m, 2] and target box [m, 4]
            (centre relative to the cell's corner, width, height), both in cells.
        """
        height, width = size
        grid = targets.new_tensor((width, height))
        xywh = targets[:, 2:] * torch.cat((grid, grid))

        ratio = xywh[None, :, 2:] / anchors[:, None]  # [3, n, 2]
        anchor, target = torch.nonzero(torch.maximum(ratio, 1 / ratio).amax(2) < self.hyp["anchor_t"], as_tuple=True)

        centre = xywh[target, :2]
        from_end = grid - centre
        left, up = ((centre % 1 < 0.5) & (centre > 1)).T
        right, down = ((from_end % 1 < 0.5) & (from_end > 1)).T
        # A centre exactly on a cell's border is near both neighbours: its cell counts twice, as in the official code.
        side, entry = torch.nonzero(torch.stack((torch.ones_like(left), left, up, right, down)), as_tuple=True)
        shift = centre.new_tensor(((0, 0), (0.5, 0), (0, 0.5), (-0.5, 0), (0, -0.5)))[side]

        anchor, target, centre = anchor[entry], target[entry], centre[entry]
        column, row = (centre - shift).long().T
        column, row = column.clamp(0, width - 1), row.clamp(0, height - 1)
        truth = torch.cat((centre - torch.stack((column, row), 1), xywh[target, 2:]), 1)
        return (targets[target, 0].long(), anchor, row, column), targets[target, 1].long(), anchors[anchor], truth
