"""The experiments of the paper: runs and stages, compared methods, protocols, ablations, and notebooks as a batch."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, [
    "ablation", "ablation_analysis", "detection", "headless", "instruction_following", "methods", "peer_training",
    "protocols", "results", "run", "suite",
], {
    "methods": ["OURS", "OURS_STAGE_1", "Method", "find_methods"],
    "results": ["fuse_method", "measure_method", "reading"],
})  # fmt: skip
