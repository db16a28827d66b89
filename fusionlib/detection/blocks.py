"""Building blocks of ultralytics, imported without that package's side effects on the process.

On import, ultralytics replaces functions of Pillow, OpenCV and torch by its own; its Pillow `open` even runs pip for a
file that it cannot read. They are restored here, so nothing else in the package imports ultralytics.
"""

import cv2
import torch
from PIL import Image

_patched = ((Image, "open"), (cv2, "imread"), (cv2, "imwrite"), (cv2, "imshow"), (torch, "save"))
_originals = [(module, name, getattr(module, name)) for module, name in _patched]

from ultralytics.nn.modules import C3, SPPF, Concat, Conv  # noqa: E402
from ultralytics.nn.tasks import DetectionModel  # noqa: E402
from ultralytics.utils import ROOT, SETTINGS  # noqa: E402

for _module, _name, _original in _originals:
    setattr(_module, _name, _original)

if SETTINGS["sync"]:  # no analytics and no crash reports, even where the machine is online
    SETTINGS.update(sync=False)

__all__ = ["C3", "ROOT", "SPPF", "Concat", "Conv", "DetectionModel"]
