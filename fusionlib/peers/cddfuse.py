"""CDDFuse: a transformer and an invertible network decompose images into shared base and specific detail features."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from fusionlib.peers.layers import Named, RestormerBlock, TransformerBlock, channel_attention, channel_norm
from fusionlib.peers.peer import Peer

WIDTH, HEADS = 64, 8

_conv3 = partial(nn.Conv2d, kernel_size=3, padding=1, bias=False)


class CDDFuse(Peer):
    """CDDFuse: base and detail features are summed over the modalities, fused separately and decoded together.

    Zhao, Bai, Zhang, Zhang, Xu, Lin, Timofte, Van Gool: CDDFuse: Correlation-Driven Dual-Branch Feature Decomposition
    for Multi-Modality Image Fusion, CVPR 2023, 5906-5916.

    1,188,272 parameters. Takes infrared and luma [B,1,H,W] in 0..1 of any size from 2x2, gives [B,1,H,W] in 0..1
    (after the sigmoid). The release has no licence; the user provides the weights.

    As in the release, the decoder adds the visible image before the sigmoid, so infrared and visible are not
    interchangeable, and results are stretched to their own minimum and maximum on saving (`official_postprocess`).
    Attention between channels runs over all pixels, so tiles do not give the result of the whole image.
    """

    least = 2
    official_stretch = True
    bytes_per_pixel = 8000

    def __init__(self):
        super().__init__()
        self.DIDF_Encoder = nn.ModuleDict(dict(
            patch_embed=Named(proj=_conv3(1, WIDTH)), encoder_level1=_restormer(),
            baseFeature=BaseFeature(WIDTH), detailFeature=_detail_feature(nodes=3),
        ))
        self.DIDF_Decoder = nn.ModuleDict(dict(
            reduce_channel=nn.Conv2d(2 * WIDTH, WIDTH, 1, bias=False), encoder_level2=_restormer(),
            output=nn.Sequential(_conv3(WIDTH, WIDTH // 2), nn.LeakyReLU(), _conv3(WIDTH // 2, 1)),
        ))
        self.BaseFuseLayer = BaseFeature(WIDTH)
        self.DetailFuseLayer = _detail_feature(nodes=1)

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Base and detail features, both [B,64,H,W], of an image [B,1,H,W] of either modality."""
        encoder = self.DIDF_Encoder
        shared = encoder.encoder_level1(encoder.patch_embed(image))
        return encoder.baseFeature(shared), encoder.detailFeature(shared)

    def decode(self, visible: Tensor, base: Tensor, detail: Tensor) -> Tensor:
        """The image [B,1,H,W] in 0..1 of features [B,64,H,W]; `visible` is added before the sigmoid.

        Our first phase of training decodes each image from its own features, with that image as `visible`.
        """
        decoder = self.DIDF_Decoder
        features = decoder.encoder_level2(decoder.reduce_channel(torch.cat((base, detail), 1)))
        return (decoder.output(features) + visible).sigmoid()

    def forward(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Fuse [B,1,H,W] and [B,1,H,W] in 0..1 to [B,1,H,W] in 0..1."""
        base, detail = (of_visible + of_ir for of_visible, of_ir in zip(self.encode(visible), self.encode(ir)))
        return self.decode(visible, self.BaseFuseLayer(base), self.DetailFuseLayer(detail))


class BaseFeature(TransformerBlock):
    """Channel attention and a gated feed-forward network, both residual: [B,C,H,W] -> [B,C,H,W], C a multiple of 8.

    EMMA uses it with reflect padding in the feed-forward network. Unlike in `RestormerBlock` the 3x3 convolution before
    attention is not depthwise.
    """

    def __init__(self, width: int, padding_mode: str = "zeros"):
        super().__init__(
            norm1=channel_norm(width), attn=_BaseAttention(width), norm2=channel_norm(width),
            mlp=_GatedFeedForward(width, expansion=1, groups=width, padding_mode=padding_mode),
        )


class _BaseAttention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(HEADS, 1, 1))
        self.qkv1 = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.qkv2 = _conv3(3 * width, 3 * width)
        self.proj = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, x):
        return self.proj(channel_attention(self.qkv2(self.qkv1(x)), self.scale))


class _GatedFeedForward(nn.Module):
    """One half of the channels, through GELU, gates the other."""

    def __init__(self, width, expansion, groups, padding_mode="zeros"):
        super().__init__()
        hidden = expansion * width
        self.project_in = nn.Conv2d(width, 2 * hidden, 1, bias=False)
        self.dwconv = _conv3(2 * hidden, 2 * hidden, groups=groups, padding_mode=padding_mode)
        self.project_out = nn.Conv2d(hidden, width, 1, bias=False)

    def forward(self, x):
        gate, x = self.dwconv(self.project_in(x)).chunk(2, 1)
        return self.project_out(gelu(gate) * x)


class _CouplingNode(nn.Module):
    """Affine coupling (Dinh et al., Real NVP, ICLR 2017) of two halves of 32 channels."""

    def __init__(self):
        super().__init__()
        self.theta_phi, self.theta_rho, self.theta_eta = _bottleneck(), _bottleneck(), _bottleneck()
        self.shffleconv = nn.Conv2d(WIDTH, WIDTH, 1)  # misspelt in the release's keys

    def forward(self, x):
        first, second = self.shffleconv(x).chunk(2, 1)
        second = second + self.theta_phi(first)
        first = first * self.theta_rho(second).exp() + self.theta_eta(second)
        return torch.cat((first, second), 1)


def _detail_feature(nodes):
    return Named(net=nn.Sequential(*(_CouplingNode() for _ in range(nodes))))


def _bottleneck():
    """The bottleneck of an inverted residual, without its shortcut: 32 channels, 64 inside."""
    return Named(bottleneckBlock=nn.Sequential(
        nn.Conv2d(WIDTH // 2, WIDTH, 1, bias=False), nn.ReLU6(), nn.ReflectionPad2d(1),
        nn.Conv2d(WIDTH, WIDTH, 3, groups=WIDTH, bias=False), nn.ReLU6(),
        nn.Conv2d(WIDTH, WIDTH // 2, 1, bias=False),
    ))


def _restormer():
    feed_forward = partial(_GatedFeedForward, expansion=2, groups=4 * WIDTH)  # depthwise
    return nn.Sequential(*(RestormerBlock(WIDTH, HEADS, feed_forward) for _ in range(4)))
