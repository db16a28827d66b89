"""Tiles cover an image once, and what is fused from them is the whole image, in memory that does not grow with it."""

import multiprocessing
import resource
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
from torch.nn.functional import avg_pool2d

from fusionlib.inference import network as inference
from fusionlib.inference.tiling import tiled, tiles
from fusionlib.models import VARIANTS, FusionNetwork, TextGuidedFusion
from fusionlib.utils.errors import FusionError

TEXT = 24
SIZES = [(37, 50), (33, 17), (64, 64), (41, 2), (5, 3)]  # with last tiles of 1 to 5 pixels, and images below a tile
TILES = [6, 16, 32]
BLOCKS = {1: {}, 2: {"channels": (6, 12, 12), "block": 2, "merge": "max-min", "output": "clip"}}


def model(variant, block=1):
    """Stage 1 for None, or stage 2; layers hand on what is far away undamped, and words look at few pixels."""
    network = FusionNetwork(**BLOCKS[block])
    refined = network if variant is None else TextGuidedFusion(network, TEXT, variant)
    for name, module in refined.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, a=0.2)
        elif name.endswith("image_guided.to_query"):
            torch.nn.init.normal_(module.weight, std=2)
    return refined.eval()


def pair(size):
    return torch.rand(1, *size), torch.rand(3, *size)


@pytest.mark.parametrize("halo", [0, 3, 40])
@pytest.mark.parametrize("side", [1, 7, 16, 100])
def test_parts_cover_each_pixel_once(side, halo):
    image, seen = torch.rand(2, 1, 33, 17), torch.zeros(33, 17)
    for place, part in tiles(lambda tile: 2 * tile, [image], side, halo):
        seen[place] += 1
        assert torch.equal(part, 2 * image[(..., *place)])
        assert max(part.shape[-2:]) <= side
    assert torch.equal(seen, torch.ones(33, 17))
    assert torch.equal(tiled(lambda a, b: a - b, [image, image / 2], side, halo), image / 2)


def test_a_tile_sees_its_halo_and_not_more():
    def blurred(image):
        return avg_pool2d(image, 7, stride=1, padding=3, count_include_pad=False)

    image = torch.rand(1, 2, 40, 31)
    whole = blurred(image)
    torch.testing.assert_close(tiled(blurred, [image], 13, 3), whole)
    assert (tiled(blurred, [image], 13, 2) - whole).abs().max() > 0.01


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("variant", [None, *VARIANTS])
@pytest.mark.parametrize("block", BLOCKS)
def test_fused_in_tiles_is_fused_whole(block, variant, size, monkeypatch):
    refined, images, text = model(variant, block), pair(size), None if variant is None else torch.randn(6, TEXT)
    monkeypatch.setattr(inference, "TILE", 1000)
    whole = inference.fuse(refined, *images, text)
    for side in TILES:
        monkeypatch.setattr(inference, "TILE", side)
        in_tiles = inference.fuse(refined, *images, text)
        torch.testing.assert_close(in_tiles, whole, rtol=0, atol=1e-6 if variant is None else 1e-5)


@pytest.mark.parametrize("variant", [None, *VARIANTS])
@pytest.mark.parametrize("block", BLOCKS)
def test_every_layer_needs_its_pixel_of_the_halo(block, variant, monkeypatch):
    refined, images, text = model(variant, block), pair((37, 50)), None if variant is None else torch.randn(6, TEXT)
    whole = inference.fuse(refined, *images, text)
    monkeypatch.setattr(inference, "TILE", 16)
    monkeypatch.setattr(inference, "REACH", 2)
    assert (inference.fuse(refined, *images, text) - whole).abs().max() > 1e-3


def test_a_layout_that_is_faster_gives_the_same_image():
    refined, images, text = model("wide"), pair((64, 80)), torch.randn(9, TEXT)
    expected = inference.fuse(refined, *images, text)
    placed = inference.placed(refined, torch.device("cpu"))
    assert placed.network.decoder[0][0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(inference.fuse(placed, *images, text), expected, rtol=0, atol=1e-5)


def test_words_that_see_only_their_tile_give_another_image(monkeypatch):
    refined, images, text = model("full"), pair((37, 50)), torch.randn(6, TEXT)
    whole = inference.fuse(refined, *images, text)
    monkeypatch.setattr(inference, "TILE", 16)
    monkeypatch.setattr(inference, "_context", lambda *_: (None, None))
    assert (inference.fuse(refined, *images, text) - whole).abs().max() > 1e-3


@pytest.mark.parametrize(
    "ir, visible", [((1, 8, 8), (3, 8, 9)), ((3, 8, 8), (3, 8, 8)), ((1, 8, 8), (1, 8, 8)), ((1, 90, 1), (3, 90, 1))]
)
def test_images_that_do_not_fit(ir, visible):
    with pytest.raises(FusionError, match=r"one size from 2x2 pixels on, found \[\d, .*\] and \[\d, "):
        inference.fuse(model(None), torch.rand(ir), torch.rand(visible))


def peak(variant, size):
    """Megabytes that the fusion of one pair adds to the peak of a process that holds the pair."""
    torch.set_num_threads(1)
    refined, images, text = model(variant), pair(size), None if variant is None else torch.randn(60, TEXT)
    inference.fuse(refined, *(image[:, :64, :64] for image in images), text)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    inference.fuse(refined, *images, text)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit / 1e6


@pytest.mark.parametrize("variant, size", [(None, (3000, 4000)), ("full", (1250, 1600))])
def test_memory_is_bounded(variant, size):
    # A fork of a server: of a new program, Linux takes this process's own peak for the first value of ru_maxrss.
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as pool:
        used = pool.submit(peak, variant, size).result()
    result = 3 * 4 * size[0] * size[1] / 1e6
    print(f"{used:.0f} MB, of which the result takes {result:.0f}")
    assert used < result + 500  # at once, stage 1 would take 4 GB, and Text-DFH 1 GB
