"""The experiments of the paper: runs and stages, compared methods, protocols, ablations, and the notebooks in batch."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, [
    "ablation", "ablation_analysis", "damage_detection", "detection", "instruction_following", "methods",
    "peer_training", "protocols", "restoration", "results", "run", "stages", "suite",
], {
    "methods": ["OURS", "OURS_STAGE_1", "Method", "find_methods"],
    "run": ["open_run", "reopen"],
    "results": ["fuse_method", "measure_method", "reading"],
})
