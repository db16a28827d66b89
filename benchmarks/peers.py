"""All compared methods and ours on one 640x480 pair, through `fuse`: parameters, operations, time and memory.

Operations are two for each multiplication and addition in convolutions, matrix products and attention; what else a
method does, such as normalisation, is not counted. The weights of the others are random, which changes neither time nor
memory.
"""

import copy
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import Case
from fusionlib import peers
from fusionlib.data.synthetic import scene as scenes
from fusionlib.inference import network as inference
from fusionlib.inference import pair

SIZE = (480, 640)
WORDS = (64, 384)  # of an answer: tokens, features


def inputs() -> dict:
    """Infrared [1,480,640] and visible [3,480,640] of a synthetic scene, float32 in 0..1, and what to call each way."""
    scene = scenes.render(0, size=SIZE)
    arrays = {"ir": np.float32(scene.ir)[None] / 255,
              "visible": np.ascontiguousarray(np.float32(scene.visible).transpose(2, 0, 1)) / 255}
    return arrays | {"ways": [_described(name, *method, arrays) for name, method in _methods().items()]}


def cases(arrays: dict) -> list[Case]:
    """Ours first."""
    images = [torch.from_numpy(arrays[name]) for name in ("ir", "visible")]
    methods = zip(arrays["ways"], _methods().values())
    return [Case("fuse 640x480", way, partial(run, network, *images)) for way, (network, run) in methods]


def _methods():
    """name -> network, and what fuses with it."""
    methods = {"ours, stage 1": (pair.fusion_network(), inference.fuse),
               "ours with Text-DFH": (pair.text_dfh(), _with_answer)}
    for name in peers.PEERS:
        peer = peers.build(name)
        methods[name] = (peer, _with_sentence if peer.takes_text else type(peer).fuse)
    return methods


def _with_answer(network, ir, visible):
    return inference.fuse(network, ir, visible, ir.new_zeros(WORDS))


def _with_sentence(network, ir, visible):
    return network.fuse(ir, visible, ir.new_zeros(1, 512))


def _described(name, network, run, arrays):
    parameters = sum(p.numel() for p in network.parameters())
    operations = float(f"{_operations(network, run, arrays) / 1e9:.3g}")
    return f"{name}: {parameters / 1e6:.3f} M parameters, {operations:,g} GFLOP"


def _operations(network: nn.Module, run, arrays) -> int:
    """Counted without numbers; with them for MLFusion, whose operations depend on values."""
    for device in ("meta", "cpu"):
        images = [torch.from_numpy(arrays[name]).to(device) for name in ("ir", "visible")]
        try:
            with FlopCounterMode(display=False) as counter:
                run(copy.deepcopy(network).to(device), *images)
            return counter.get_total_flops()
        except NotImplementedError:
            continue
