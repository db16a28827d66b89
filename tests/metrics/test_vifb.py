"""Values that others published or computed: VIFB's own on its images, and those of CDDFuse's evaluator.

11 pairs fused by 7 methods; the numbers of the second file are of the 21 fused images of three pairs.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fusionlib.metrics import evaluate

VIFB = {
    "Q_AB/F": "Qabf", "Q_CV": "Qcv", "SSIM": "Ssim", "AG": "Avg_gradient", "EN": "Entropy", "SD": "Variance",
    "SF": "Spatial_frequency", "MI": "Mutinf", "PSNR": "Psnr", "MSE": "Rmse", "CE": "Cross_entropy",
    "EI": "Edge_intensity", "Q_CB": "Qcb",
}  # fmt: skip
CDDFUSE = {
    "Q_AB/F": "Qabf", "SSIM": "SSIM_dr2", "AG": "AG", "SCD": "SCD", "EN": "EN", "SD": "SD", "SF": "SF", "MI": "MI",
    "VIF": "VIFF", "CC": "CC", "PSNR": "PSNR", "MSE": "MSE",
}  # fmt: skip


def worst_errors(folder, table, columns, convention):
    """Largest relative error per metric, and where; [2, metrics]."""
    def read(path):
        image = np.array(Image.open(path))
        return torch.from_numpy(image).reshape(*image.shape[:2], -1).permute(2, 0, 1)[None]

    golden = pd.read_csv(folder / table, index_col="image_method")
    rows = {}
    for name in golden.index:
        scene = f"{name.rsplit('_', 1)[0]}.jpg"
        images = read(folder / "fused" / f"{name}.jpg"), read(folder / "ir" / scene), read(folder / "vi" / scene)
        rows[name] = {metric: value.item() for metric, value in evaluate(*images, columns, convention).items()}
    ours = pd.DataFrame.from_dict(rows, orient="index")
    errors = (ours / golden[list(columns.values())].set_axis(list(columns), axis=1) - 1).abs()
    return len(golden), errors.agg(["max", "idxmax"])


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "metrics" / "vifb"


def test_every_published_value_is_met_to_its_printed_digits(folder):
    images, errors = worst_errors(folder, "vifb_golden.csv", VIFB, "vifb")
    assert images == 77
    assert (errors.loc["max"] < 1e-4).all(), errors.T  # 5 digits are printed


def test_another_evaluation_code_gives_the_same(folder):
    images, errors = worst_errors(folder, "evaluator_reference.csv", CDDFUSE, "cddfuse")
    assert images == 21
    assert (errors.loc["max"] < 1e-4).all(), errors.T  # it computes in float32
