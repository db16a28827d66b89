"""The figures of the notebooks, in one style.

Every function returns a matplotlib Figure that is not shown yet: end a notebook cell with it, and keep it with `save`.
Images are tensors [1 or 3, H, W] or [H, W], or arrays [H, W] or [H, W, 3]; uint8, uint16, or float 0..1. They are shown
with the gray values they have, never stretched, pixel by pixel where there is room and smoothly reduced where not.
"""

from fusionlib.plots.charts import attention, curves, height_histogram, seeds, steering, tradeoff
from fusionlib.plots.common import COLOURS, DPI, PREDICTION, REGION, TRUTH, save, style
from fusionlib.plots.sheets import answers, contact_sheet, detections, region_of

__all__ = [
    "COLOURS",
    "DPI",
    "PREDICTION",
    "REGION",
    "TRUTH",
    "answers",
    "attention",
    "contact_sheet",
    "curves",
    "detections",
    "height_histogram",
    "region_of",
    "save",
    "seeds",
    "steering",
    "style",
    "tradeoff",
]
