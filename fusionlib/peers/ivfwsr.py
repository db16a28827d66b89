"""IVFWSR: fuses pairs that are not strictly registered, by attention guided by infrared and visible features."""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torchvision.models.convnext import LayerNorm2d
from torchvision.ops import Permute

from fusionlib.peers.layers import Dense, Named
from fusionlib.peers.peer import Peer

_WIDTH, _HEADS = 64, 4  # channels of every feature map, attention heads


class IVFWSR(Peer):
    """Li, Liu, Zhang and Liu, A Deep Learning Framework for IVIF Without Strict Registration, IJCV 2024.

    14,092,815 parameters; 590,080 of them (`compress_in`) are in the release but never called. Takes both images as
    three channels BGR in 0..1, sides resized down to multiples of 14; infrared is corrected, the visible image is the
    reference. Gives three channels >= 0 without an upper bound, which the release stretches to the range of the image.
    The name is that of the comparison; the repository calls it IVF-WoReg. The release is "free for research purposes
    only"; the user provides the weights.
    """

    channels = 3
    order = "BGR"
    multiple = 14
    fit = "resize"
    official_stretch = True
    halo = 56  # 46 by kernels and windows, rounded up to a multiple of 14 so that tiles have the same windows
    bytes_per_pixel = 25000

    def __init__(self):
        super().__init__()
        self.up, self.bottle = _FeatureNet(), _FeatureNet()
        self.layer = nn.ModuleList(_Correction() for _ in range(3))
        self.Fusionlayer = _FusionHead()

    def forward(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Fuse `ir` and `visible` [B,3,H,W] in 0..1, sides multiples of 14, to [B,3,H,W] >= 0."""
        return self.Fusionlayer(*self.correct(ir, visible))

    def correct(self, ir: Tensor, visible: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Three infrared feature maps [B,64,H,W] aligned to the visible ones, and the visible ones."""
        (moving, _), (reference, guides) = self.up(ir), self.bottle(visible)
        return [layer(m, guide) for layer, m, guide in zip(self.layer, moving, guides)], reference


class _FeatureNet(nn.Module):
    """Three maps [B,64,H,W] from a chain of attention blocks, and three from the parallel dense blocks."""

    def __init__(self):
        super().__init__()
        self.Fe_extractconv = _Convolutions(3, (32, 3), (_WIDTH, 3), (_WIDTH, 3))
        self.layer_first = _FirstBlock()
        self.BasiclayerBefore = _layer(_WIDTH)
        self.layers = nn.ModuleList(_layer(2 * _WIDTH) for _ in range(2))
        self.compress_in = nn.Conv2d(4 * _WIDTH, 2 * _WIDTH, 3, padding=1)  # in the release's files, never called

    def forward(self, image):
        shallow = self.Fe_extractconv(image)
        first = self.layer_first(shallow)
        dense = self.BasiclayerBefore["RDB"](shallow)
        mixed, out = self.BasiclayerBefore["blocks"][0](first, first, dense)
        outs, denses = [out], [dense]
        for layer in self.layers:
            dense = layer["RDB"](torch.cat((out, dense), 1)) + dense
            mixed, out = layer["blocks"][0](out, mixed, dense)
            outs.append(out)
            denses.append(dense)
        return outs, denses


def _layer(channels):
    """The dense and the attention branch of one level."""
    dense = (Dense(conv=nn.Conv2d(channels + i * _WIDTH, _WIDTH, 3, padding=1), normal=LayerNorm2d(_WIDTH),
                   act=nn.ReLU()) for i in range(3))
    residual_dense = Named(conv=nn.Sequential(*dense), LFF=nn.Conv2d(channels + 3 * _WIDTH, _WIDTH, 1))
    return nn.ModuleDict({"RDB": residual_dense, "blocks": nn.ModuleList([_Block()])})


class _FirstBlock(nn.Module):
    """A transformer block on 7x7 windows, with a convolution before its attention."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = LayerNorm2d(_WIDTH), LayerNorm2d(_WIDTH)
        self.convqkv = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        self.attn, self.mlp = _WindowAttention(7), _mlp()

    def forward(self, x):
        x = x + self.attn(self.convqkv(self.norm1(x)))
        return x + self.mlp(self.norm2(x))


class _Block(nn.Module):
    """A transformer block that mixes in two other maps between its halves; returns the mixture and the output."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = LayerNorm2d(_WIDTH), LayerNorm2d(_WIDTH)
        self.convQKV1 = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        self.attn = _WindowAttention(7)
        self.conv1, self.conv2 = (nn.Sequential(nn.Conv2d(2 * _WIDTH, _WIDTH, 3, padding=1)) for _ in range(2))
        self.mlp = _mlp()

    def forward(self, x, side1, side2):
        x = x + self.attn(self.convQKV1(self.norm1(x)))
        mixed = x + self.conv1(torch.cat((x, side1), 1))
        mixed = x + self.conv2(torch.cat((mixed, side2), 1))
        return mixed, x + self.mlp(self.norm2(mixed))


class _Correction(nn.Module):
    """Attention on 14x14 windows of infrared, with logits from the offsets of both images and without a shortcut."""

    def __init__(self):
        super().__init__()
        self.aware_offset = _Offset()
        self.norm1, self.norm2 = LayerNorm2d(_WIDTH), LayerNorm2d(_WIDTH)
        self.convQKV1 = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        self.attn, self.mlp = _WindowAttention(14, corrected=True), _mlp()

    def forward(self, ir, guide):
        x = self.attn(self.convQKV1(self.norm1(ir)), self.aware_offset(ir, guide))
        return x + self.mlp(self.norm2(x))


class _Offset(nn.Module):
    """Features [B,64,H,W] of the misalignment of infrared with the visible image, both [B,64,H,W]."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (_convolutions(_WIDTH, (_WIDTH, kernel)) for kernel in (3, 5, 7))
        self.conv4 = _convolutions(3 * _WIDTH, (_WIDTH, 3))
        self.conv5 = _convolutions(2 * _WIDTH, (2 * _WIDTH, 3))
        self.conv6 = _convolutions(2 * _WIDTH, (2 * _WIDTH, 3)).append(nn.Sigmoid())  # after the ReLU: 0.5..1
        self.conv7, self.conv8 = (_convolutions(2 * _WIDTH, (_WIDTH, 1)) for _ in range(2))

    def forward(self, ir, guide):
        scales = self.conv4(torch.cat((self.conv1(ir), self.conv2(ir), self.conv3(ir)), 1))
        both = torch.cat((ir, guide), 1)
        gated = self.conv5(both)
        return scales * self.conv7(gated * self.conv6(gated)) + self.conv8(both)


class _WindowAttention(nn.Module):
    """Self-attention within disjoint windows; an offset is projected to additive logits."""

    def __init__(self, window, corrected=False):
        super().__init__()
        self.window = window
        self.qkv, self.proj = nn.Linear(_WIDTH, 3 * _WIDTH), nn.Linear(_WIDTH, _WIDTH)
        if corrected:
            self.correct = nn.Linear(_WIDTH // _HEADS, window**2)

    def forward(self, x, offset=None):
        q, k, v = self._heads(self.qkv(self._windows(x)))
        logits = None if offset is None else self.correct(self._heads(self._windows(offset))[0])
        out = scaled_dot_product_attention(q, k, v, attn_mask=logits)
        out = self.proj(out.transpose(1, 2).flatten(2))
        (batch, channels, height, width), w = x.shape, self.window
        out = out.view(batch, height // w, width // w, w, w, channels)
        return out.permute(0, 5, 1, 3, 2, 4).reshape(x.shape)

    def _windows(self, x):
        """[B,64,H,W] -> [windows, pixels, 64]."""
        (batch, channels, height, width), w = x.shape, self.window
        x = x.reshape(batch, channels, height // w, w, width // w, w)
        return x.permute(0, 2, 4, 3, 5, 1).reshape(-1, w * w, channels)

    def _heads(self, x):
        """[windows, pixels, n*64] -> [n, windows, heads, pixels, 16]."""
        return x.unflatten(-1, (-1, _HEADS, _WIDTH // _HEADS)).permute(2, 0, 3, 1, 4)


class _FusionHead(nn.Module):
    """A tree of convolutions on three corrected and three visible maps [B,64,H,W]; gives [B,3,H,W]."""

    def __init__(self):
        super().__init__()
        self.Fb1, self.Fb2, self.Fb3, self.Fb4, self.Fb5, self.Fb6 = (
            _Convolutions(n, (n, 3), (n, 3), (_WIDTH, 1)) for n in (maps * _WIDTH for maps in (2, 4, 3, 4, 6, 4))
        )
        self.conv = _convolutions(2 * _WIDTH, (2 * _WIDTH, 3), (2 * _WIDTH, 3), (3, 1))

    def forward(self, corrected, visible):
        (c1, c2, c3), (v1, v2, v3) = corrected, visible
        o1 = self.Fb1(v1, v2)
        o2 = self.Fb2(v1, v2, v3, o1)
        o3 = self.Fb3(v2, v3, o2)
        o4 = self.Fb4(c1, c2, o1, o2)
        o5 = self.Fb5(c1, c2, c3, o2, o3, o4)
        o6 = self.Fb6(c2, c3, o3, o5)
        return self.conv(torch.cat((o3, o6), 1))


class _Convolutions(Named):
    """`_convolutions` on concatenated maps."""

    def __init__(self, channels, *layers):
        super().__init__(feature_extract1=_convolutions(channels, *layers))

    def forward(self, *maps):
        return super().forward(torch.cat(maps, 1))


def _convolutions(channels, *layers):
    """Convolutions of (channels, kernel), each followed by a ReLU."""
    modules = nn.Sequential()
    for width, kernel in layers:
        modules.append(nn.Conv2d(channels, width, kernel, padding=kernel // 2)).append(nn.ReLU(inplace=True))
        channels = width
    return modules


def _mlp():
    return Named(
        last=Permute([0, 2, 3, 1]), fc1=nn.Linear(_WIDTH, 2 * _WIDTH), act=nn.GELU(),
        fc2=nn.Linear(2 * _WIDTH, _WIDTH), first=Permute([0, 3, 1, 2]),
    )
