"""What all detectors do with an image before and with their boxes after the network."""

from collections.abc import Sequence

import torch
from torchvision.ops import batched_nms, clip_boxes_to_image

from fusionlib.utils.errors import FusionError

_CANDIDATES = 30_000
_GREY = 114 / 255  # the official letterbox colour


def check(images: torch.Tensor) -> None:
    """Raise FusionError unless these are float RGB images [B, 3, H, W]."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise FusionError(f"a detector takes float RGB images [B, 3, H, W] in 0..1, found {images.dtype} of shape "
                          f"{list(images.shape)}: convert them first.")


def missing(images: torch.Tensor, multiple: int) -> tuple[int, int]:
    """Rows and columns that images [..., H, W] lack to multiples of a stride."""
    return -images.shape[-2] % multiple, -images.shape[-1] % multiple


def pad(images: torch.Tensor, multiple: int) -> torch.Tensor:
    """Images [..., H, W] filled with grey at the bottom and right, up to multiples of a stride."""
    bottom, right = missing(images, multiple)
    return torch.nn.functional.pad(images, (0, right, 0, bottom), value=_GREY)


def suppress(boxes: torch.Tensor, scores: torch.Tensor, size: tuple[int, int], conf: float, iou: float, max_det: int,
             classes: Sequence[int] | None = None) -> torch.Tensor:
    """Non-maximum suppression within each class, as in the official validation: a box may count for several classes.

    Args:
        boxes: [N, 4], x1, y1, x2, y2 in pixels.
        scores: [N, C] in 0..1.
        size: (H, W) that boxes are clipped to.
        conf: smallest score kept.
        iou: overlap above which the lower-scored of two boxes goes.
        max_det: most boxes kept.
        classes: class indices to keep; all by default.

    Returns:
        [n, 6]: x1, y1, x2, y2, score, class; best score first.
    """
    if classes is not None:
        wanted = torch.zeros(scores.shape[1], dtype=torch.bool, device=scores.device)
        wanted[list(classes)] = True
        scores = scores * wanted
    box, label = torch.nonzero(scores > conf, as_tuple=True)
    score = scores[box, label]
    if len(score) > _CANDIDATES:
        score, best = score.topk(_CANDIDATES)
        box, label = box[best], label[best]
    boxes = boxes[box]
    kept = batched_nms(boxes, score, label, iou)[:max_det]
    boxes = clip_boxes_to_image(boxes[kept], size)
    return torch.cat((boxes, score[kept, None], label[kept, None].to(boxes)), 1)
