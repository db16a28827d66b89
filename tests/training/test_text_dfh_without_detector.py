"""Stage 2 without a detector: what is trained, what stays, and which region is enlarged."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from fusionlib import models
from fusionlib.config import profile
from fusionlib.data import datasets, load, write_image
from fusionlib.data.pairs import Pair
from fusionlib.inference import network as inference
from fusionlib.training import train_text_dfh
from fusionlib.utils.errors import FusionError
from fusionlib.visualization import contact_sheets

SETTINGS = replace(profile("quick"), dfh_epochs=3, dfh_lr=2e-3, dfh_batch=2)


@pytest.fixture
def pairs(tmp_path):
    """Four pairs of two sizes, with a bright spot in the second modality."""
    rng, made = np.random.default_rng(0), []
    for index, size in enumerate(((40, 32), (40, 32), (36, 32), (40, 30))):
        ir, visible = (rng.integers(60, 120, size).astype(np.uint8) for _ in range(2))
        visible[5:13, 18:26] = 250
        pair = Pair("toy", "train", f"{index}001", tmp_path / f"{index}_ir.png", tmp_path / f"{index}_vi.png")
        write_image(pair.ir, ir)
        write_image(pair.visible, np.repeat(visible[..., None], 3, 2))
        made.append(pair)
    return made


def test_text_dfh_alone_learns_and_lowers_the_fusion_loss(pairs, tmp_path):
    network = models.FusionNetwork((4, 8, 8)).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    texts = [torch.randn(5 + i, 16) for i in range(4)]
    train, validation = (pairs[:3], texts[:3]), (pairs[3:], texts[3:])
    refined = train_text_dfh(network, None, train, validation, tmp_path / "run", SETTINGS)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    curves = pd.read_csv(tmp_path / "run" / "curves.csv")
    assert len(curves) == 3 and curves["validation total"].iloc[-1] < curves["validation total"].iloc[0]
    # The last loss is that of stage 1 of the whole validation image, whose margin is black in both modalities.
    sample = datasets.SliceDataset(pairs[3:], (40, 32), texts[3:], train=False)[0]
    ir, y = sample["ir"][None], sample["visible"][None, :1]
    assert ir.shape == y.shape == (1, 1, 40, 32) and (ir[..., 30:] == 0).all() and (y[..., 30:] == 0).all()
    with torch.no_grad():
        fused = refined(ir, y, texts[3][None], torch.ones(1, len(texts[3]), dtype=torch.bool))
        wanted = models.MultiscaleFusionLoss()(fused, ir, y)[0].item()
    assert curves["validation total"].iloc[-1] == pytest.approx(wanted, rel=1e-3)


def test_an_untrained_text_dfh_is_stage_1(pairs):
    network = models.FusionNetwork((4, 8, 8)).eval()
    untrained = models.TextGuidedFusion(network, 16).eval()
    ir, visible = load(pairs[0])
    assert torch.equal(inference.fuse(untrained, ir, visible, torch.randn(4, 16)), inference.fuse(network, ir, visible))


def test_no_pairs(tmp_path):
    with pytest.raises(FusionError, match="pairs to train and to validate on, but got 0 and 0"):
        train_text_dfh(models.FusionNetwork((4, 8, 8)), None, ([], []), ([], []), tmp_path, SETTINGS)


def test_region_is_around_the_tumour_or_where_the_second_modality_is_brightest(pairs):
    x1, y1, x2, y2 = contact_sheets.medical_region(pairs[0])
    assert x1 <= 19 and x2 >= 25 and y1 <= 6 and y2 >= 12 and (x2 - x1, y2 - y1) == pytest.approx((8, 10))
    marked = replace(pairs[0], boxes=np.float32([[4, 28, 8, 34]]), classes=("tumour",))
    x1, y1, x2, y2 = contact_sheets.medical_region(marked)
    assert (x1 + x2) / 2 == pytest.approx(6, abs=1e-4) and y1 <= 28 and y2 >= 34
    assert x1 >= 0 and y2 <= 40
    empty = replace(pairs[0], boxes=np.zeros((0, 4), np.float32), classes=())
    assert contact_sheets.medical_region(empty) == contact_sheets.medical_region(pairs[0])


def test_example_has_the_largest_tumour_or_is_the_middle_one(pairs):
    assert contact_sheets.medical_example(pairs[:3]) is pairs[1]
    small, large = (replace(p, boxes=np.float32([[0, 0, n, n]]), classes=("tumour",)) for p, n in zip(pairs, (3, 9)))
    assert contact_sheets.medical_example([pairs[3], small, large, pairs[2]]) is large
