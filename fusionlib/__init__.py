"""Infrared and visible image fusion driven by multimodal large language models.

The helper library behind the notebooks. Importing it is cheap: the sub-packages load when they are first used.
"""

import importlib
import os
from pathlib import Path

__version__ = "0.1.0"

#: The checkout (or, for an installed wheel, the working folder): where data/, figures/ and notebooks/ lie.
ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "notebooks").is_dir():
    ROOT = Path.cwd()

# Nothing phones home. These are read by the libraries when they are imported, so they must be set before.
os.environ.setdefault("YOLO_OFFLINE", "1")
os.environ.setdefault("YOLO_CONFIG_DIR", str(ROOT / "data" / "cache"))
os.environ.setdefault("YOLO_VERBOSE", "0")
os.environ.setdefault("YOLO_AUTOINSTALL", "false")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")
# ultralytics would set this to 1 for the whole process on import.
os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
# Threads that wait sleep. Spinning ones win a twentieth on an idle machine, and lose many times that on a busy one.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

_LAZY = {
    "ablation", "browsing", "comparison", "config", "data", "detection", "devices", "distributed", "edges",
    "errors", "evaluation", "export", "feedback", "folders", "fusing", "headless", "inference", "loop", "medical",
    "metrics", "models", "peers", "plots", "registration", "report", "runs", "statistics", "steering", "suite",
    "tables", "tiles", "training", "video",
}  # fmt: skip
#: Functions that are called as fusionlib.<name>, and the modules they are in.
_FUNCTIONS = {"browse": "browsing", "compare": "browsing", "fuse": "fusing"}


def __getattr__(name: str):
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f"fusionlib.{_FUNCTIONS[name]}"), name)
    if name in _LAZY:
        return importlib.import_module(f"fusionlib.{name}")
    raise AttributeError(f"module 'fusionlib' has no attribute {name!r}")


def __dir__():
    return sorted(_LAZY | {"ROOT", "__version__", *_FUNCTIONS})
