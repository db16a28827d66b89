"""DATFuse: dual attention (channel and spatial) around two transformer blocks."""

import torch
from torch import Tensor, nn

from fusionlib.peers.layers import Named, TransformerBlock
from fusionlib.peers.peer import Peer

CHANNELS, HEADS = 16, 8


class DATFuse(Peer):
    """Tang et al., DATFuse: infrared and visible image fusion via dual attention transformer, IEEE TCSVT 33(7), 2023.

    10,760 parameters. Takes infrared and luma [B,1,H,W] of any size, gives [B,1,H,W] after a tanh; images are in 0..1.
    The official code has no licence.

    As in the release, with which the official weights were trained:
    - One attention module, with the same weights, serves before and after the transformer; inside it, one convolution
      and one batch normalisation are applied twice.
    - The transformer's window is one pixel, so a token attends only to itself: attention is the projected value, and
      queries, keys and position biases have no effect.
    - A token is 16 consecutive values in memory, mostly neighbours in a row of one channel, not the 16 channels of a
      pixel. So a result depends on the width of the image and cannot be computed from tiles.
    - `patch_embed.norm` is never used.
    """

    bytes_per_pixel = 2000

    def __init__(self):
        super().__init__()
        self.convolutional, self.fem = _convolution(2, CHANNELS, 5), _convolution(CHANNELS, CHANNELS, 3)
        self.cam = Named(fc=nn.Sequential(nn.Conv2d(CHANNELS, 4, 1), nn.ReLU(), nn.Conv2d(4, CHANNELS, 1)))
        self.sam = Named(body=nn.Sequential(
            nn.Conv2d(CHANNELS, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
            nn.Conv2d(4, 1, 3, padding=1), nn.BatchNorm2d(1), nn.Sigmoid(),
        ))
        self.patch_embed = Named(norm=nn.LayerNorm(96))
        self.basicLayer = Named(blocks=nn.Sequential(_block(), _block()))
        self.convolutional_out = Named(conv=nn.Conv2d(CHANNELS, 1, 1))

    def forward(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Fuse infrared and luma: two [B,1,H,W] in 0..1 -> [B,1,H,W] in -1..1."""
        shallow = self.convolutional(torch.cat([ir, visible], 1)).relu()
        features, attended = self._dual_attention(shallow)
        tokens = (attended + shallow).relu().reshape(len(ir), *ir.shape[-2:], CHANNELS)
        features, attended = self._dual_attention(self.basicLayer(tokens).view(shallow.shape))
        return self.convolutional_out(attended + features).tanh()

    def _dual_attention(self, x):
        features = self.fem(self.fem(x).relu())
        channel = self.cam(features.mean((2, 3), keepdim=True)).sigmoid()
        return features, features * channel + features * self.sam(features)


def _convolution(inputs, outputs, size):
    conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, padding_mode="replicate")
    return Named(conv=conv, bn=nn.BatchNorm2d(outputs))


class _Attention(nn.Module):
    """Attention in windows of one token, which is the projected value: [..., 16] -> [..., 16]."""

    def __init__(self):
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros(1, HEADS))
        self.qkv, self.proj = nn.Linear(CHANNELS, 3 * CHANNELS), nn.Linear(CHANNELS, CHANNELS)

    def forward(self, x):
        return self.proj(self.qkv(x).chunk(3, -1)[2])


def _block():
    return TransformerBlock(
        norm1=nn.LayerNorm(CHANNELS), attn=_Attention(), norm2=nn.LayerNorm(CHANNELS),
        mlp=Named(fc1=nn.Linear(CHANNELS, 4 * CHANNELS), act=nn.GELU(), fc2=nn.Linear(4 * CHANNELS, CHANNELS)),
    )
