"""LRRNet: low-rank and sparse components by unrolled iterations, fused by convolutions."""

import torch
from torch import Tensor, nn

from fusionlib.models.fusion_network import convolution
from fusionlib.peers.layers import Named, to_one_channel
from fusionlib.peers.peer import Peer

FEATURES, BLOCKS = 128, 4


class LRRNet(Peer):
    """Li et al., LRRNet: a novel representation learning guided fusion framework, IEEE TPAMI 45(9), 2023.

    49,204 parameters. An encoder per modality unrolls four iterations of a decomposition into low-rank and sparse
    components, and the decoder, which has no activation, fuses each kind. Takes infrared and luma [B,1,H,W], gives
    [B,1,H,W]. The official code has no licence.

    `fuse` stretches the inputs to their own minimum and maximum first, as the release does, and always the result too:
    the training loss saw only stretched results, so the output has no scale of its own. With the official weights it
    lies between about 0.03 and 0.2 for any image.
    """

    least = 2
    always_stretch = True
    halo = 11  # 1 of the first convolution, 2 of each block, 2 of the decoder
    bytes_per_pixel = 7300

    def __init__(self):
        super().__init__()
        self.get_ls1, self.get_ls2 = _Encoder(), _Encoder()
        components = {f"conv_{name}": _layer(FEATURES, 1) for name in ("ReZx", "ReUx", "ReZy", "ReUy")}
        self.decoder = nn.ModuleDict(components | {"conv_ReL": _layer(2, 1), "conv_ReH": _layer(2, 1)})

    def prepare(self, ir: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Stretch each image [B,1,H,W] to its own minimum and maximum."""
        return _stretched(ir), _stretched(visible)

    def decompose(self, ir: Tensor, visible: Tensor) -> dict[str, Tensor]:
        """Low-rank and sparse components [B,1,H,W]: x_l, x_h of infrared, y_l, y_h of luma, and fused low, high."""
        maps = {}
        for name, encoder, image in (("x", self.get_ls1, ir), ("y", self.get_ls2, visible)):
            low_rank, sparse = encoder(image).split(FEATURES, 1)
            maps[f"{name}_l"] = _to_one_channel(self.decoder[f"conv_ReZ{name}"], low_rank)
            maps[f"{name}_h"] = _to_one_channel(self.decoder[f"conv_ReU{name}"], sparse)
        maps["low"] = _to_one_channel(self.decoder["conv_ReL"], torch.cat([maps["x_l"], maps["y_l"]], 1))
        maps["high"] = _to_one_channel(self.decoder["conv_ReH"], torch.cat([maps["x_h"], maps["y_h"]], 1))
        return maps

    def forward(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Fuse infrared and luma without stretching: two [B,1,H,W] -> [B,1,H,W]."""
        maps = self.decompose(ir, visible)
        return maps["low"] + maps["high"]


class _Encoder(nn.Module):
    """[B,1,H,W] -> [B,256,H,W]: the low-rank half, then the sparse half."""

    def __init__(self):
        super().__init__()
        self.lamj = nn.Parameter(torch.rand(1, 2 * FEATURES))
        self.lamz = nn.Parameter(torch.rand(1, 1))
        self.conv_W00 = _layer(1, 2 * FEATURES)
        for n in range(BLOCKS):
            block = {"conv_Wdz": _layer(2 * FEATURES, 1), "conv_Wdtz": _layer(1, 2 * FEATURES)}
            self.add_module(f"lrrblock{n}", nn.ModuleDict(block))

    def forward(self, image: Tensor) -> Tensor:
        z = self._shrink(self.conv_W00(image))
        for n in range(BLOCKS):
            block = getattr(self, f"lrrblock{n}")
            residual = image - _to_one_channel(block["conv_Wdz"], z)
            z = self.lamz * z + block["conv_Wdtz"](residual)
            z = self._shrink(z)
        return z

    def _shrink(self, z):
        """Soft threshold; torch's own refuses negative thresholds, which the official weights have."""
        return z.abs().sub_(self.lamj[..., None, None]).relu_() * z.sign()  # in place: 256 channels are large


def _layer(inputs, outputs):
    return Named(conv2d=convolution(inputs, outputs))


def _to_one_channel(layer, x):
    return to_one_channel(x, layer.conv2d.weight, layer.conv2d.bias)


def _stretched(image):
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    return (image - low) / (high - low + 1e-5)
