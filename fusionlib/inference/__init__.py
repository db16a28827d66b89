"""Fusion of images, folders and videos with trained networks, registration, and export."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, [
    "edge_matching", "export", "folder", "network", "pair", "registration", "tiling", "video",
], {"network": ["fuse", "fuse_pairs", "image_path", "read_fused", "word_attention"]})
