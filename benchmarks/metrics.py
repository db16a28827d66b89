"""The fusion metrics on one 640x480 triple, against plain NumPy and SciPy, and on a batch of 16."""

from functools import partial

import cv2
import numpy as np
import torch

from benchmarks import numpy_metrics
from benchmarks.timing import Case
from fusionlib.data.synthetic import scene as scenes
from fusionlib.metrics import evaluate
from fusionlib.metrics.conventions import METRICS
from fusionlib.utils.errors import FusionError

SIZE = (480, 640)
BATCH = 16


def inputs() -> dict[str, np.ndarray]:
    """Fused, infrared and visible uint8 [480, 640]: a scene in gray and the mean of its two pictures.

    Raises FusionError where NumPy's values and ours differ by more than 1e-4 of the value: then there is nothing to
    compare.
    """
    scene = scenes.render(0, size=SIZE)
    visible = cv2.cvtColor(scene.visible, cv2.COLOR_RGB2GRAY)
    arrays = {"fused": cv2.addWeighted(scene.ir, 0.5, visible, 0.5, 0), "ir": scene.ir, "visible": visible}
    for name, ours in evaluate(*_batch(arrays)).items():
        reference = numpy_metrics.METRICS[name](**arrays)
        if not np.isclose(ours.item(), reference, rtol=1e-4):
            raise FusionError(f"{name} should be {reference:.6g} on the benchmark's triple as in "
                              f"benchmarks/numpy_metrics.py, but is {ours.item():.6g}: mend one of the two first.")
    return arrays


def cases(arrays: dict[str, np.ndarray]) -> list[Case]:
    """Every metric alone, the paper's five together, and the five on 16 triples; all under the VIFB convention."""
    triple, batch = _batch(arrays), _batch(arrays, BATCH)
    singles = [tuple(images[i : i + 1] for images in batch) for i in range(BATCH)]
    gray = [[image.numpy()[0, 0] for image in single] for single in singles]

    def five(triples):
        for images in triples:
            for function in numpy_metrics.METRICS.values():
                function(*images)

    def calls():
        for single in singles:
            evaluate(*single)

    many = f"the paper's five, {BATCH} triples"
    rows = []
    for name in METRICS:
        if name in numpy_metrics.METRICS:
            rows.append(Case(name, "NumPy", partial(numpy_metrics.METRICS[name], **arrays)))
        rows.append(Case(name, "fusionlib", partial(evaluate, *triple, (name,))))
    return rows + [
        Case("the paper's five", "NumPy", partial(five, gray[:1])),
        Case("the paper's five", "fusionlib, one call", partial(evaluate, *triple)),
        Case(many, f"fusionlib, {BATCH} calls", calls),
        Case(many, "fusionlib, one call", partial(evaluate, *batch)),
        Case(f"{many} by NumPy", "NumPy", partial(five, gray)),
        Case(f"{many} by NumPy", "fusionlib, one call", partial(evaluate, *batch)),
    ]


def _batch(arrays, count=1):
    """The triple as tensors [count, 1, H, W], each image rolled on by some pixels: fused, infrared, visible."""
    images = (arrays[name] for name in ("fused", "ir", "visible"))
    return tuple(torch.stack([torch.from_numpy(np.roll(image, (7 * i, 13 * i), (0, 1)))[None] for i in range(count)])
                 for image in images)
