"""Pedestrian detection: the classic YOLOv5, its training loss and checkpoints, other detectors, and the measures.

The paper supervises Text-DFH by "the same loss as the one used during the training of YOLOv5" on a frozen detector, and
evaluates the fused images by mAP.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, [
    "bootstrap", "postprocessing", "precision_recall", "yolov5",
], {
    "precision_recall": ["HEIGHTS", "average_precision", "measure", "miss_rate_curve"],
    "bootstrap": ["intervals", "paired"],
    "checkpoints": ["load_yolov5", "save_yolov5"],
    "onnx_detector": ["OnnxDetector"],
    "detectors": ["UltralyticsDetector", "class_indices", "detect", "load_detector"],
    "yolov5": ["COCO_ANCHORS", "STRIDES", "YOLOv5", "freeze"],
    "yolov5_loss": ["HYP", "YOLOv5Loss", "scale_hyp", "to_targets"],
})
