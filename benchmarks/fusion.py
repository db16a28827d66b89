"""Our stages on one pair, beside the bare convolutions of stage 1, a mere copy, and the whole way with pictures."""

from functools import partial

import numpy as np
import torch
from torch import nn

from benchmarks.timing import Case
from fusionlib import fuse
from fusionlib.data.synthetic import scene as scenes
from fusionlib.feedback.text_encoder import encode_one
from fusionlib.inference import network as inference
from fusionlib.inference import pair
from fusionlib.inference.tiling import tiled
from fusionlib.utils.errors import FusionError

SIZES = ((480, 640), (1024, 1280), (3000, 4000))
INSTRUCTION = "The scene is dark: increase the overall brightness strongly."


def inputs() -> dict[str, np.ndarray]:
    """For each size an infrared uint8 [H,W] and a visible one [H,W,3] of a synthetic scene.

    Raises FusionError where tile by tile gives something else than the whole image.
    """
    arrays, network = {}, pair.fusion_network()
    for height, width in SIZES:
        scene = scenes.render(0, size=(height, width))
        arrays |= {f"ir {width}x{height}": scene.ir, f"visible {width}x{height}": scene.visible}
    ir, visible = _tensors(arrays, "{1}x{0}".format(*SIZES[0]))
    gray = visible[:1].expand(3, -1, -1)  # which has no colours that could be clipped
    with torch.inference_mode():
        whole = network(ir[None], gray[None, :1])
    if (apart := (whole[0] - inference.fuse(network, ir, gray)).abs().max().item()) > 1e-4:
        raise FusionError(f"fuse and the network should agree on luma, but are {apart:.2g} apart: mend one first")
    return arrays


def cases(arrays: dict[str, np.ndarray]) -> list[Case]:
    """Ours first; then what it cannot be faster than."""
    network, found = pair.fusion_network(), []
    text = encode_one(INSTRUCTION)
    bare = partial(_convolve, [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)], network.block)
    for height, width in SIZES:
        size = f"{width}x{height}"
        ir, visible = _tensors(arrays, size)
        pictures = arrays[f"ir {size}"], arrays[f"visible {size}"]
        ways = {
            "ours, stage 1": partial(inference.fuse, network, ir, visible),
            f"ours, an instruction of {len(text)} tokens": partial(inference.fuse, pair.text_dfh(), ir, visible, text),
            "its convolutions alone, zeros around, in the same tiles":
                partial(_tile_by_tile, bare, network.block, ir, visible),
            "its convolutions alone, the whole image at once": partial(bare, ir[None], visible[None]),
            "a copy of the pair": lambda ir=ir, visible=visible: (ir.clone(), visible.clone()),
            "fusionlib.fuse, 8-bit arrays in and out, the check for registration included": partial(fuse, *pictures),
            "fusionlib.fuse with the instruction": partial(fuse, *pictures, INSTRUCTION),
        }
        found += [Case(f"fuse {size}", way, torch.inference_mode()(run)) for way, run in ways.items()]
        found += [Case(f"fuse {size}, two threads", way, torch.inference_mode()(partial(_on_two_threads, run)))
                  for way, run in ways.items()]
    return found


def _on_two_threads(run):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        return run()
    finally:
        torch.set_num_threads(threads)


def _tensors(arrays, size):
    ir, visible = arrays[f"ir {size}"][None], arrays[f"visible {size}"].transpose(2, 0, 1)
    return [torch.from_numpy(np.ascontiguousarray(image, np.float32) / 255) for image in (ir, visible)]


def _tile_by_tile(bare, block, ir, visible):
    return tiled(bare, (ir[None], visible[None]), inference.TILE, 2 * inference.REACH * block)


def _convolve(bare, block, ir, visible):
    """Nothing but the nine convolutions, on numbers that go where the network's go."""
    sides = []
    for layers, image in ((bare[:3], ir), (bare[3:6], visible[:, :1])):
        image = nn.functional.pixel_unshuffle(image, block)
        for layer in layers:
            image = nn.functional.conv2d(image, layer.weight, padding=1)
        sides.append(image)
    image = torch.cat(sides, 1)
    for layer in bare[6:]:
        image = nn.functional.conv2d(image, layer.weight, layer.bias, padding=1)
    return nn.functional.pixel_shuffle(image, block)
