"""Infrared and visible image fusion driven by multimodal large language models.

The library behind the notebooks. Importing it is cheap, because its packages load on first use.
"""

import os
from pathlib import Path

import lazy_loader

__version__ = "0.1.0"

#: The repository (or, for an installed wheel, the working folder), which contains data/, figures/ and notebooks/.
ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "notebooks" / "01_data.ipynb").is_file():
    ROOT = Path.cwd()

# No telemetry, and no image of more pixels. The libraries read these variables on import, so they must be set before.
for _name, _value in {
    "YOLO_OFFLINE": "1", "YOLO_CONFIG_DIR": str(ROOT / "data" / "cache"), "YOLO_VERBOSE": "0",
    "YOLO_AUTOINSTALL": "false", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1",
    "OPENCV_IO_MAX_IMAGE_PIXELS": str(1 << 26),  # cameras have up to 61 million
    "OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": "-8",  # an error is told once, and by us
    "OMP_NUM_THREADS": str(os.cpu_count() or 1),  # ultralytics would set it to 1 for the whole process
    "OMP_WAIT_POLICY": "passive",  # spinning threads gain 5 % on an idle machine and lose far more on a busy one
}.items():
    os.environ.setdefault(_name, _value)

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, [
    "config", "data", "detection", "experiments", "feedback", "inference", "metrics", "models", "peers", "training",
    "utils", "viewer", "visualization",
], {"inference.api": ["fuse"], "viewer.api": ["browse", "compare"]})
