"""Synthetic street scenes and head phantoms, drawn by the suite."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, [
    "dataset", "phantom", "scene",
], {
    "dataset": ["SceneImages"],
})  # fmt: skip
