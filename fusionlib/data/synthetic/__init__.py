"""Synthetic street scenes and head phantoms."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, ["dataset", "phantom", "scene"], {"dataset": ["SceneImages"]}
)
