"""Registered image pairs: data set layouts, annotations, splits, torch data sets, augmentation, synthetic data."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, [
    "annotations", "augment", "check", "coco", "color", "common_range", "datasets", "degradation", "finding",
    "image_io", "image_types", "infrared", "label_formats", "labels", "layouts", "manifests", "matching", "medical",
    "nifti", "pairs", "places", "polarity", "problems", "pseudocolor", "scenes", "splits", "synthetic",
], {
    "annotations": ["read_labels"],
    "color": ["merge_luma", "split_luma"],
    "degradation": ["DEGRADATIONS", "degrade"],
    "image_io": ["read_image", "write_image"],
    "finding": ["find"],
    "layouts": ["Report", "pair_folders", "read"],
    "manifests": ["fingerprint", "read_manifest", "write_manifest"],
    "pairs": ["Pair", "load"],
    "problems": ["Problem"],
    "splits": ["choose", "load_rules", "summary"],
})
