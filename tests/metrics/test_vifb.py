"""The VIFB benchmark's published values on its own images: 11 pairs fused by 7 methods."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fusionlib.metrics import evaluate

COLUMNS = {"Q_AB/F": "Qabf", "Q_CV": "Qcv", "SSIM": "Ssim", "AG": "Avg_gradient"}


def measure(folder, methods, names, gray=False):
    def read(path):
        image = np.asarray(Image.open(path))
        if gray and image.ndim == 3:  # as the other evaluation code does it: float32 luma, rounded
            image = np.round(image.astype(np.float32) @ np.float32([0.299, 0.587, 0.114])).astype(np.uint8)
        return torch.from_numpy(image.copy()).reshape(*image.shape[:2], -1).permute(2, 0, 1)[None]

    rows = {}
    for name in methods:
        scene = f"{name.rsplit('_', 1)[0]}.jpg"
        images = read(folder / "fused" / f"{name}.jpg"), read(folder / "ir" / scene), read(folder / "vi" / scene)
        rows[name] = {metric: value.item() for metric, value in evaluate(*images, names).items()}
    return pd.DataFrame.from_dict(rows, orient="index")


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "metrics" / "vifb"


def test_every_published_value_is_met_to_its_printed_digits(folder):
    golden = pd.read_csv(folder / "vifb_golden.csv", index_col="image_method")
    assert len(golden) == 77
    ours = measure(folder, golden.index, COLUMNS)
    error = (ours / golden[list(COLUMNS.values())].set_axis(list(COLUMNS), axis=1) - 1).abs()
    assert (error.max() < 1e-4).all(), error.agg(["max", "idxmax"])  # 5 digits are printed


def test_scd_and_q_abf_agree_with_another_evaluation_code_on_gray_images(folder):
    reference = pd.read_csv(folder / "evaluator_reference.csv", index_col="image_method")
    ours = measure(folder, reference.index, ("SCD", "Q_AB/F"), gray=True)
    for name, column in (("SCD", "SCD"), ("Q_AB/F", "Qabf")):
        np.testing.assert_allclose(ours[name], reference[column], rtol=1e-6)
