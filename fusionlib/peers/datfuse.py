"""DATFuse: dual attention (channel and spatial) around two transformer blocks."""

import torch
from torch import Tensor, nn

from fusionlib.peers.peer import Peer

CHANNELS, HEADS = 16, 8


class DATFuse(Peer):
    """Tang et al., DATFuse: infrared and visible image fusion via dual attention transformer, IEEE TCSVT 33(7), 2023.

    10,760 parameters. Takes infrared and luma [B,1,H,W] of any size, gives [B,1,H,W] after Tanh, in which an image has
    0..1. The official code has no licence.

    Kept as the official weights were trained:
    - Before and after the transformer the same attention module works, with the same weights; inside it, one
      convolution and one batch normalisation are passed twice.
    - The transformer's window is one pixel, so that a token attends to itself alone: attention is the projected value,
      and queries, keys and position biases change nothing.
    - A token is 16 values that follow each other in memory, most often neighbours in a row of one channel, not the 16
      channels of a pixel. A result depends on the width of the image by that, and cannot be made from tiles.
    - `patch_embed.norm` is never used.
    """

    bytes_per_pixel = 2000

    def __init__(self):
        super().__init__()
        self.convolutional = _convolution(2, CHANNELS, 5)
        self.fem = _convolution(CHANNELS, CHANNELS, 3)
        gates = nn.Conv2d(CHANNELS, 4, 1), nn.ReLU(), nn.Conv2d(4, CHANNELS, 1)
        self.cam = nn.ModuleDict({"fc": nn.Sequential(*gates)})
        mask = (nn.Conv2d(CHANNELS, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1),
                nn.BatchNorm2d(1), nn.Sigmoid())
        self.sam = nn.ModuleDict({"body": nn.Sequential(*mask)})
        self.patch_embed = nn.ModuleDict({"norm": nn.LayerNorm(96)})
        self.basicLayer = nn.ModuleDict({"blocks": nn.Sequential(_Block(), _Block())})
        self.convolutional_out = nn.ModuleDict({"conv": nn.Conv2d(CHANNELS, 1, 1)})

    def forward(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Fuse infrared and luma: two [B,1,H,W] in 0..1 -> [B,1,H,W] in -1..1."""
        shallow = self._convolve(self.convolutional, torch.cat([ir, visible], 1)).relu()
        features, attended = self._dual_attention(shallow)
        tokens = (attended + shallow).relu().reshape(len(ir), *ir.shape[-2:], CHANNELS)
        features, attended = self._dual_attention(self.basicLayer["blocks"](tokens).view(shallow.shape))
        return self.convolutional_out["conv"](attended + features).tanh()

    def _dual_attention(self, x):
        features = self._convolve(self.fem, self._convolve(self.fem, x).relu())
        channel = self.cam["fc"](features.mean((2, 3), keepdim=True)).sigmoid()
        return features, features * channel + features * self.sam["body"](features)

    def _convolve(self, layer, x):
        return layer["bn"](layer["conv"](x))


def _convolution(inputs, outputs, size):
    conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, padding_mode="replicate")
    return nn.ModuleDict({"conv": conv, "bn": nn.BatchNorm2d(outputs)})


class _Block(nn.Module):
    """A transformer block with windows of one token: [..., 16] -> [..., 16]."""

    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(CHANNELS)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(CHANNELS, 3 * CHANNELS), "proj": nn.Linear(CHANNELS, CHANNELS)})
        self.attn.register_parameter("relative_position_bias_table", nn.Parameter(torch.zeros(1, HEADS)))
        self.norm2 = nn.LayerNorm(CHANNELS)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(CHANNELS, 4 * CHANNELS), "fc2": nn.Linear(4 * CHANNELS, CHANNELS)})

    def forward(self, x: Tensor) -> Tensor:
        value = self.attn["qkv"](self.norm1(x)).chunk(3, -1)[2]
        x = x + self.attn["proj"](value)
        return x + self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](self.norm2(x))))
