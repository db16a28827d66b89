"""Pedestrian detection: the classic YOLOv5, its training loss, its checkpoints, other detectors, and the measures.

The paper supervises the Text-DFH with "the same loss as the one used during the training of YOLOv5" on a frozen
detector, and judges the fused images by mAP.
"""

from .checkpoints import load_yolov5, save_yolov5
from .detectors import UltralyticsDetector, load_detector
from .evaluate import class_indices, detect
from .loss import HYP, YOLOv5Loss, scale_hyp, to_targets
from .measures import HEIGHTS, average_precision, measure, miss_rate_curve
from .train import SCENE_DETECTOR, bf16_supported, train_detector, train_scene_detector
from .uncertainty import intervals, paired
from .yolov5 import COCO_ANCHORS, STRIDES, YOLOv5, freeze

__all__ = [
    "COCO_ANCHORS",
    "HEIGHTS",
    "HYP",
    "SCENE_DETECTOR",
    "STRIDES",
    "UltralyticsDetector",
    "YOLOv5",
    "YOLOv5Loss",
    "average_precision",
    "bf16_supported",
    "class_indices",
    "detect",
    "freeze",
    "intervals",
    "load_detector",
    "load_yolov5",
    "measure",
    "miss_rate_curve",
    "paired",
    "save_yolov5",
    "scale_hyp",
    "to_targets",
    "train_detector",
    "train_scene_detector",
]
