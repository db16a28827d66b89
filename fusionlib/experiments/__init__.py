"""The experiments of the paper: runs and stages, compared methods, protocols, ablations, and the notebooks in batch."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, [
    "ablation", "ablation_analysis", "checks", "claims", "damage_detection", "detection", "execution", "folders",
    "fusers", "inputs", "instruction_following", "lookahead", "methods", "peer_training", "progress", "protocols",
    "publishing", "restoration", "results", "run", "stages", "suite",
], {
    "checks": ["expect"],
    "methods": ["OURS", "OURS_STAGE_1", "Method", "find_methods"],
    "run": ["open_run", "reopen"],
    "results": ["fuse_method", "measure_method", "reading"],
})
