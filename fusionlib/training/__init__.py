"""Training: one trainer, the two stages of the paper, the instructions and the detector."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, [
    "detector", "fusion", "instructions", "objectives", "text_dfh", "trainer",
], {
    "detector": ["SCENE_DETECTOR", "bf16_supported", "evaluate_detector", "train_detector", "train_scene_detector"],
    "fusion": ["new_network", "train_fusion_network"],
    "text_dfh": ["train_text_dfh"],
})  # fmt: skip
