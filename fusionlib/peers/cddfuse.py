"""CDDFuse: a Transformer and an invertible network part each image into what both share and what is its own."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from fusionlib.peers.layers import RestormerBlock, channel_attention, channel_norm, named
from fusionlib.peers.peer import Peer

WIDTH = 64
HEADS = 8


class CDDFuse(Peer):
    """CDDFuse: base and detail features are summed over the modalities, fused apart and decoded together.

    Zhao, Bai, Zhang, Zhang, Xu, Lin, Timofte, Van Gool: CDDFuse: Correlation-Driven Dual-Branch Feature Decomposition
    for Multi-Modality Image Fusion, CVPR 2023, 5906-5916.

    1,188,272 parameters. Takes infrared and luma [B,1,H,W] in 0..1 of any size from 2x2, gives [B,1,H,W] in 0..1
    (after the sigmoid). The release has no licence: its weights come from the user.

    Kept from the release: the decoder adds the visible image before the sigmoid, so that infrared and visible are not
    interchangeable; the result is stretched to its own minimum and maximum when it is saved (`official_postprocess`).
    Attention runs between channels over all pixels: a tile does not give what the whole image gives.
    """

    least = 2
    official_stretch = True
    bytes_per_pixel = 8000

    def __init__(self):
        super().__init__()
        self.DIDF_Encoder = _Encoder()
        self.DIDF_Decoder = _Decoder()
        self.BaseFuseLayer = BaseFeature(WIDTH)
        self.DetailFuseLayer = _DetailFeature(nodes=1)

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Base and detail features, both [B,64,H,W], of an image [B,1,H,W] of either modality."""
        return self.DIDF_Encoder(image)

    def decode(self, visible: Tensor, base: Tensor, detail: Tensor) -> Tensor:
        """The image [B,1,H,W] in 0..1 of features [B,64,H,W].

        `visible` is added before the sigmoid. Our first phase of training decodes each image from its own features and
        gives that image in the place of `visible`.
        """
        return self.DIDF_Decoder(visible, base, detail)

    def forward(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Fuse [B,1,H,W] and [B,1,H,W] in 0..1 to [B,1,H,W] in 0..1."""
        base, detail = (of_visible + of_ir for of_visible, of_ir in zip(self.encode(visible), self.encode(ir)))
        return self.decode(visible, self.BaseFuseLayer(base), self.DetailFuseLayer(detail))


class BaseFeature(nn.Module):
    """Channel attention and a gated feed-forward, both residual: [B,C,H,W] -> [B,C,H,W] with C a multiple of 8.

    EMMA has the same block, with reflect padding in the feed-forward. Unlike in `RestormerBlock` the 3x3 convolution
    before attention is full.
    """

    def __init__(self, width: int, padding_mode: str = "zeros"):
        super().__init__()
        self.norm1 = channel_norm(width)
        self.attn = _BaseAttention(width)
        self.norm2 = channel_norm(width)
        self.mlp = _GatedFeedForward(width, expansion=1, groups=width, padding_mode=padding_mode)

    def forward(self, x: Tensor) -> Tensor:
        """Attend, then feed forward."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class _BaseAttention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(HEADS, 1, 1))
        self.qkv1 = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.qkv2 = nn.Conv2d(3 * width, 3 * width, 3, padding=1, bias=False)
        self.proj = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, x):
        return self.proj(channel_attention(self.qkv2(self.qkv1(x)), self.scale))


class _GatedFeedForward(nn.Module):
    """One half of the channels, through GELU, gates the other."""

    def __init__(self, width, expansion, groups, padding_mode="zeros"):
        super().__init__()
        hidden = expansion * width
        self.project_in = nn.Conv2d(width, 2 * hidden, 1, bias=False)
        self.dwconv = nn.Conv2d(
            2 * hidden, 2 * hidden, 3, padding=1, groups=groups, bias=False, padding_mode=padding_mode
        )
        self.project_out = nn.Conv2d(hidden, width, 1, bias=False)

    def forward(self, x):
        gate, x = self.dwconv(self.project_in(x)).chunk(2, 1)
        return self.project_out(gelu(gate) * x)


class _DetailFeature(nn.Module):
    """Nodes of affine coupling (Dinh et al., Real NVP, ICLR 2017) on two halves of 32 channels."""

    def __init__(self, nodes):
        super().__init__()
        self.net = nn.Sequential(*(_CouplingNode() for _ in range(nodes)))

    def forward(self, x):
        return self.net(x)


class _CouplingNode(nn.Module):
    def __init__(self):
        super().__init__()
        self.theta_phi, self.theta_rho, self.theta_eta = _Bottleneck(), _Bottleneck(), _Bottleneck()
        self.shffleconv = nn.Conv2d(WIDTH, WIDTH, 1)  # misspelt in the release's keys

    def forward(self, x):
        first, second = self.shffleconv(x).chunk(2, 1)
        second = second + self.theta_phi(first)
        first = first * self.theta_rho(second).exp() + self.theta_eta(second)
        return torch.cat((first, second), 1)


class _Bottleneck(nn.Module):
    """An inverted residual's bottleneck without its residual: 32 channels, 64 inside."""

    def __init__(self):
        super().__init__()
        self.bottleneckBlock = nn.Sequential(
            nn.Conv2d(WIDTH // 2, WIDTH, 1, bias=False), nn.ReLU6(), nn.ReflectionPad2d(1),
            nn.Conv2d(WIDTH, WIDTH, 3, groups=WIDTH, bias=False), nn.ReLU6(),
            nn.Conv2d(WIDTH, WIDTH // 2, 1, bias=False),
        )

    def forward(self, x):
        return self.bottleneckBlock(x)


class _Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch_embed = named(proj=nn.Conv2d(1, WIDTH, 3, padding=1, bias=False))
        self.encoder_level1 = _restormer()
        self.baseFeature = BaseFeature(WIDTH)
        self.detailFeature = _DetailFeature(nodes=3)

    def forward(self, image):
        shared = self.encoder_level1(self.patch_embed(image))
        return self.baseFeature(shared), self.detailFeature(shared)


class _Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.reduce_channel = nn.Conv2d(2 * WIDTH, WIDTH, 1, bias=False)
        self.encoder_level2 = _restormer()
        self.output = nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH // 2, 3, padding=1, bias=False), nn.LeakyReLU(),
            nn.Conv2d(WIDTH // 2, 1, 3, padding=1, bias=False),
        )

    def forward(self, visible, base, detail):
        features = self.encoder_level2(self.reduce_channel(torch.cat((base, detail), 1)))
        return (self.output(features) + visible).sigmoid()


def _restormer():
    feed_forward = partial(_GatedFeedForward, expansion=2, groups=4 * WIDTH)  # depthwise
    return nn.Sequential(*(RestormerBlock(WIDTH, HEADS, feed_forward) for _ in range(4)))
