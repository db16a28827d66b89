"""Infrared and visible image fusion driven by multimodal large language models.

The helper library behind the notebooks. Importing it is cheap: the sub-packages load when they are first used.
"""

import os
from pathlib import Path

import lazy_loader

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

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, [
    "config", "data", "detection", "experiments", "feedback", "inference", "metrics", "models", "peers", "training",
    "utils", "viewer", "visualization",
], {"inference.api": ["fuse"], "viewer.api": ["browse", "compare"]})  # fmt: skip
