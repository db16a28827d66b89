"""ALMFnet: a small searched network that fuses medical images."""

from functools import partial

import torch
from torch import Tensor, nn

from fusionlib.peers.layers import named
from fusionlib.peers.peer import Peer
from fusionlib.peers.searched_ops import DenseBlock, ResidualModule, SpatialAttn, conv, preprocess

_CHANNELS = 16

# What the search found, node by node: the operations that a node adds up, and the state that each of them takes: 0 is
# the input of the cell, n its n-th node. The number after a name is the side of the kernel.
_MRI_CELL = (
    [("residual3", 0)],
    [("crossed5", 0), ("separable7", 1)],
    [("dense1", 0), ("crossed3", 1)],
    [("attention3", 0), ("separable5", 1)],
)
_OTHER_CELL = (
    [("separable1", 0)],
    [("crossed3", 1), ("separable7", 0)],
    [("crossed3", 0), ("separable7", 1)],
    [("separable3", 2), ("residual3", 0)],
)
_FUSION_CELL = (
    [("separable1", 0)],
    [("crossed3", 1), ("separable1", 0)],
    [("separable1", 2), ("separable1", 1)],
    [("dense1", 0), ("separable7", 3)],
)


class ALMFnet(Peer):
    """Mu et al., Learning to Search a Lightweight Generalized Network for Medical Image Fusion, IEEE TCSVT 2023.

    53,719 parameters; code and weights under the MIT licence. Two gray images in 0..1, of any size. The first plays the
    MRI, the second CT, PET or SPECT: give `fuse` the MRI as `ir` and the other as `visible`, whose luma is fused and
    whose CbCr are kept where it has colours. Each side has a stem and a cell of its own, so that exchanging the images
    changes the result. The output comes from a tanh and is not shifted: training held it to the inputs, and a black
    background may come out a little below 0.
    """

    halo = 14
    bytes_per_pixel = 2800

    def __init__(self):
        super().__init__()
        self.stem1, self.stem2 = _conv_norm(1), _conv_norm(1)
        self.cell_f1, self.cell_f2, self.cell_f = _Cell(_MRI_CELL), _Cell(_OTHER_CELL), _Cell(_FUSION_CELL)
        self.fusion1 = _conv_norm(8 * _CHANNELS).append(nn.ReLU())
        self.fusion2 = _conv_norm(4 * _CHANNELS).extend([nn.ReLU(), conv(_CHANNELS, 1, 3), nn.Tanh()])

    def forward(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Fuse the MRI `ir` [B,1,H,W] and the other image `visible` [B,1,H,W] in 0..1 to [B,1,H,W] in -1..1."""
        both = [self.cell_f1(self.stem1(ir)), self.cell_f2(self.stem2(visible))]
        return self.fusion2(self.cell_f(self.fusion1(torch.cat(both, 1))))


class _Cell(nn.Module):
    """Four nodes; [B,16,H,W] -> [B,64,H,W], the nodes side by side."""

    def __init__(self, nodes):
        super().__init__()
        self.nodes = nodes
        self.preprocess0 = preprocess(_CHANNELS)
        self._ops = nn.ModuleList(_OPERATIONS[name]() for node in nodes for name, _ in node)

    def forward(self, x):
        states, ops = [self.preprocess0(x)], iter(self._ops)
        for node in self.nodes:
            states.append(sum(next(ops)(states[taken]) for _, taken in node))
        return torch.cat(states[1:], 1)


class _SpatialResidual(nn.Module):
    """Two convolutions, and spatial attention on what the second adds to the first; one PReLU slope for both places."""

    def __init__(self):
        super().__init__()
        self.conv1 = conv(_CHANNELS, _CHANNELS, 3)
        self.conv2 = named(conv=conv(_CHANNELS, _CHANNELS, 3))
        self.se = SpatialAttn(3)
        self.relu = nn.PReLU()

    def forward(self, x):
        first = self.conv1(x)
        return self.relu(first + self.se(self.conv2(self.relu(first))))


def _separable(kernel):
    """Each channel alone, then 1x1 across them."""
    return named(op=nn.Sequential(
        conv(_CHANNELS, _CHANNELS, kernel, groups=_CHANNELS), conv(_CHANNELS, _CHANNELS, 1),
        nn.BatchNorm2d(_CHANNELS), nn.ReLU(),
    ))


def _crossed(length):
    """Along the rows, then along the columns."""
    return nn.Sequential(
        nn.Conv2d(_CHANNELS, _CHANNELS, (1, length), padding="same", bias=False),
        nn.Conv2d(_CHANNELS, _CHANNELS, (length, 1), padding="same", bias=False),
        nn.BatchNorm2d(_CHANNELS), nn.ReLU(),
    )


def _conv_norm(in_channels):
    return nn.Sequential(conv(in_channels, _CHANNELS, 3), nn.BatchNorm2d(_CHANNELS))


_OPERATIONS = {
    "residual3": partial(ResidualModule, _CHANNELS, 3), "dense1": partial(DenseBlock, _CHANNELS, 1, 0.333333),
    "attention3": _SpatialResidual, "crossed3": partial(_crossed, 3), "crossed5": partial(_crossed, 5),
    **{f"separable{kernel}": partial(_separable, kernel) for kernel in (1, 3, 5, 7)},
}
