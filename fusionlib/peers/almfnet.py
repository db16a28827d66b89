"""ALMFnet: a small searched network that fuses medical images."""

from functools import partial

import torch
from torch import Tensor, nn

from fusionlib.peers.layers import DenseBlock, Named, ResidualModule, SpatialAttn, conv, preprocess
from fusionlib.peers.peer import Peer

_CHANNELS = 16

# The searched cells, node by node: the operations that a node sums, each with its input: 0 is the input of the cell, n
# its n-th node. The number after a name is the kernel size.
_MRI_CELL = (
    [("residual3", 0)], [("crossed5", 0), ("separable7", 1)],
    [("dense1", 0), ("crossed3", 1)], [("attention3", 0), ("separable5", 1)],
)
_OTHER_CELL = (
    [("separable1", 0)], [("crossed3", 1), ("separable7", 0)],
    [("crossed3", 0), ("separable7", 1)], [("separable3", 2), ("residual3", 0)],
)
_FUSION_CELL = (
    [("separable1", 0)], [("crossed3", 1), ("separable1", 0)],
    [("separable1", 2), ("separable1", 1)], [("dense1", 0), ("separable7", 3)],
)


class ALMFnet(Peer):
    """Mu et al., Learning to Search a Lightweight Generalized Network for Medical Image Fusion, IEEE TCSVT 2023.

    53,719 parameters; code and weights under the MIT licence. Takes two gray images in 0..1 of any size: `ir` is the
    MRI and `visible` the CT, PET or SPECT image, whose luma `fuse` fuses and whose chroma it preserves. Each input has
    its own stem and cell, so swapping the images changes the result. The output of the tanh is not shifted: training
    fitted it to the inputs, and a black background may be slightly below 0.
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
        features = torch.cat([self.cell_f1(self.stem1(ir)), self.cell_f2(self.stem2(visible))], 1)
        return self.fusion2(self.cell_f(self.fusion1(features)))


class _Cell(nn.Module):
    """Four nodes, concatenated: [B,16,H,W] -> [B,64,H,W]."""

    def __init__(self, nodes):
        super().__init__()
        self.nodes = nodes
        self.preprocess0 = preprocess(_CHANNELS)
        self._ops = nn.ModuleList(_OPERATIONS[name]() for node in nodes for name, _ in node)

    def forward(self, x):
        states, ops = [self.preprocess0(x)], iter(self._ops)
        for node in self.nodes:
            states.append(sum(next(ops)(states[source]) for _, source in node))
        return torch.cat(states[1:], 1)


class _SpatialResidual(nn.Module):
    """Two convolutions, the second with spatial attention and added to the first; they share a PReLU."""

    def __init__(self):
        super().__init__()
        self.conv1 = conv(_CHANNELS, _CHANNELS, 3)
        self.conv2 = Named(conv=conv(_CHANNELS, _CHANNELS, 3))
        self.se = SpatialAttn(3)
        self.relu = nn.PReLU()

    def forward(self, x):
        first = self.conv1(x)
        return self.relu(first + self.se(self.conv2(self.relu(first))))


def _separable(kernel):
    """Depthwise, then pointwise convolution."""
    return Named(op=nn.Sequential(
        conv(_CHANNELS, _CHANNELS, kernel, groups=_CHANNELS), conv(_CHANNELS, _CHANNELS, 1),
        nn.BatchNorm2d(_CHANNELS), nn.ReLU(),
    ))


def _crossed(length):
    """Convolutions along the rows, then along the columns."""
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
