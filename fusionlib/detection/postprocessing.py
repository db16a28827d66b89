"""Padding of images before a detector, and non-maximum suppression of its boxes."""

from collections.abc import Sequence

import torch
from torchvision.ops import batched_nms, clip_boxes_to_image

from fusionlib.utils.errors import FusionError

_CANDIDATES = 30_000  # boxes per image that enter non-maximum suppression, as in the official validation
GREY = 114 / 255  # the official letterbox colour


def check_images(images: torch.Tensor) -> None:
    """FusionError unless these are float RGB images [B, 3, H, W]."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise FusionError(f"A detector takes float RGB images [B, 3, H, W] in 0..1, found {images.dtype} of shape "
                          f"{list(images.shape)}: convert them first.")


def padding(images: torch.Tensor, multiple: int) -> tuple[int, int]:
    """Rows and columns to add to images [..., H, W] to reach multiples of a stride."""
    return -images.shape[-2] % multiple, -images.shape[-1] % multiple


def pad(images: torch.Tensor, multiple: int) -> torch.Tensor:
    """Pad images [..., H, W] with grey at the bottom and right to multiples of a stride."""
    bottom, right = padding(images, multiple)
    return torch.nn.functional.pad(images, (0, right, 0, bottom), value=GREY)


def suppress(boxes: torch.Tensor, scores: torch.Tensor, size: tuple[int, int], conf: float, iou: float, max_det: int,
             classes: Sequence[int] | None = None) -> torch.Tensor:
    """Non-maximum suppression within each class, as in the official validation: a box may count for several classes.

    Args:
        boxes: [N, 4], x1, y1, x2, y2 in pixels.
        scores: [N, C] in 0..1.
        size: (H, W) that boxes are clipped to.
        conf: score that detections must exceed.
        iou: overlap above which the lower-scored of two boxes is removed.
        max_det: maximum number of detections.
        classes: class indices to detect; all by default.

    Returns:
        [n, 6]: x1, y1, x2, y2, score, class; best score first.
    """
    if classes is not None:
        selected = torch.zeros(scores.shape[1], dtype=torch.bool, device=scores.device)
        selected[list(classes)] = True
        scores = scores * selected
    box, label = torch.nonzero(scores > conf, as_tuple=True)
    score = scores[box, label]
    if len(score) > _CANDIDATES:
        score, best = score.topk(_CANDIDATES)
        box, label = box[best], label[best]
    boxes = boxes[box]
    best = batched_nms(boxes, score, label, iou)[:max_det]
    boxes = clip_boxes_to_image(boxes[best], size)
    return torch.cat((boxes, score[best, None], label[best, None].to(boxes)), 1)


def select(rows: torch.Tensor, size: tuple[int, int], conf: float, max_det: int,
           classes: Sequence[int] | None = None) -> torch.Tensor:
    """As `suppress`, for a network that has suppressed by itself: rows [N, 6] x1, y1, x2, y2, score, class."""
    selected = rows[:, 4] > conf
    if classes is not None:
        selected &= torch.isin(rows[:, 5], rows.new_tensor(list(classes)))
    rows = rows[selected][:max_det]
    return torch.cat((clip_boxes_to_image(rows[:, :4], size), rows[:, 4:6]), 1)
