"""Stage 1: the fusion network of paper section 3.2 (IR-Encoder, VI-Encoder, F-Decoder)."""

import pkgutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad, pixel_shuffle

from fusionlib.utils.errors import FusionError

HUB = "fusionlib.models.hub"


def convolution(in_channels: int, out_channels: int, bias: bool = True) -> nn.Conv2d:
    """3x3 convolution, stride 1, reflect padding: [B,in,H,W] -> [B,out,H,W], H and W at least 2."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=1, padding=1, padding_mode="reflect", bias=bias)


def feature_layer(in_channels: int, out_channels: int, norm: str = "batch") -> nn.Sequential:
    """Convolution, BatchNorm (unless `norm` is "none") and LeakyReLU(0.2): [B,in,H,W] -> [B,out,H,W]."""
    if norm == "none":
        return nn.Sequential(convolution(in_channels, out_channels), nn.LeakyReLU(0.2, inplace=True))
    return nn.Sequential(convolution(in_channels, out_channels, bias=False), nn.BatchNorm2d(out_channels),
                         nn.LeakyReLU(0.2, inplace=True))


def blocks(image: Tensor, side: int) -> Tensor:
    """Blocks of pixels as channels: [B,C,H,W] -> [B,C*side^2,h,w], h and w rounded up and at least 2.

    As `pixel_unshuffle` of the image with its last row and column repeated, but it can be exported for any size.
    """
    if side == 1:
        return image
    channels = image.shape[1]
    pixels = torch.eye(side**2, dtype=image.dtype, device=image.device).view(-1, 1, side, side)
    # What fills no block is dropped; the reflect padding of the layers needs two blocks.
    right, bottom = (side - 1 if size > side else 2 * side - 1 for size in (image.shape[3], image.shape[2]))
    return conv2d(pad(image, (0, right, 0, bottom), mode="replicate"), pixels.repeat(channels, 1, 1, 1), stride=side,
                  groups=channels)  # fmt: skip


def crop(image: Tensor, height: int, width: int) -> Tensor:
    """The first rows and columns: [B,C,H,W] -> [B,C,height,width]."""
    if torch.compiler.is_exporting():  # a slice compares the sizes, so the file would fuse even or odd sides alone
        for axis, size in ((2, height), (3, width)):
            image = image.index_select(axis, torch.arange(size, device=image.device))
        return image
    return image[..., :height, :width]


class Encoder(nn.Sequential):
    """Three feature layers on blocks of pixels: [B,1,H,W] -> [B,channels[2],h,w], h and w as by `blocks`."""

    def __init__(self, channels: Sequence[int], block: int, norm: str):
        c1, c2, c3 = channels
        super().__init__(feature_layer(block**2, c1, norm), feature_layer(c1, c2, norm), feature_layer(c2, c3, norm))
        self.block = block

    def forward(self, image: Tensor) -> Tensor:
        """[B,1,H,W] -> [B,channels[2],h,w]."""
        return super().forward(blocks(image, self.block))


class Decoder(nn.Sequential):
    """Two feature layers and a convolution: [B,2*channels,h,w] -> [B,1,h*block,w*block] in -1..1."""

    def __init__(self, channels: int, block: int, norm: str, output: nn.Module):
        super().__init__(feature_layer(2 * channels, channels, norm), feature_layer(channels, channels // 2, norm),
                         convolution(channels // 2, block**2), output)
        self.block = block

    def forward(self, features: Tensor) -> Tensor:
        """[B,2*channels,h,w] -> [B,1,h*block,w*block]."""
        return pixel_shuffle(super().forward(features), self.block)


def max_min(a: Tensor, b: Tensor) -> Tensor:
    """The larger and the smaller of two features, elementwise: two [B,C,h,w] -> [B,2C,h,w]."""
    return torch.cat([torch.maximum(a, b), torch.minimum(a, b)], dim=1)


def concatenate(a: Tensor, b: Tensor) -> Tensor:
    """Both features: two [B,C,h,w] -> [B,2C,h,w]."""
    return torch.cat([a, b], dim=1)


#: What the decoder sees of both features.
MERGES = {"concatenate": concatenate, "max-min": max_min}
#: Of the feature layers, between convolution and LeakyReLU.
NORMS = ("batch", "none")
#: Last layer of the decoder: to -1..1.
OUTPUTS = {"tanh": nn.Tanh, "clip": nn.Hardtanh}


class OnHub:
    """A network as a folder, or as a repository of the Hugging Face Hub.

    `models.hub` is imported by name on first use: it takes long, and no result depends on it (`utils.code`).
    """

    def save_pretrained(self, folder: str | Path, **options) -> None:
        """Write weights (safetensors), config.json and a model card (README.md, kept if there is one) to a folder.

        `options` are those of `huggingface_hub.ModelHubMixin`; model_card_kwargs fills in "training", "evaluation", ...
        """
        pkgutil.resolve_name(HUB).Hosted(self).save_pretrained(folder, **options)

    def push_to_hub(self, name: str, **options) -> str:
        """Save to a repository of the Hub, owner/name, with the user's token; returns the URL of the commit."""
        return pkgutil.resolve_name(HUB).Hosted(self).push_to_hub(name, **options)

    @classmethod
    def from_pretrained(cls, source: str | Path, **options):
        """Load from a folder, or a repository of the Hub (revision, token, local_files_only, ...): on the CPU, for use.

        Raises FusionError where there is none, or one of another network.
        """
        return pkgutil.resolve_name(HUB).load(cls, source, **options)


class FusionNetwork(nn.Module, OnHub):
    """Fuse an infrared image with the luma of a visible one.

    Each encoder has three feature layers, c1, c2, c3. The decoder takes both features, concatenated along channels,
    through c3 -> c3/2 -> 1; its last layer is a convolution and Tanh, mapped from -1..1 to 0..1. The paper does not
    give the numbers of channels; the default (4, 8, 8) is ours, and with it the defaults are the paper's network.
    The profiles `quick`, `small`, `shipped` have channels (16, 32, 32), blocks of 2 x 2 pixels, "max-min", no BatchNorm
    and "clip".

    Args:
        channels: output channels c1, c2, c3 of the encoders' three layers; c3 must be even.
        block: side of the blocks of pixels whose values are the input channels of the encoders and the output channels
            of the decoder; 1 for single pixels. Layers of few channels on many pixels use little of a processor: on
            blocks of 2 x 2, four times the channels take little more time, and they reach twice as far.
        merge: "concatenate", the paper's; or "max-min", the larger and the smaller of both features, by which a decoder
            that shall show the stronger edge need not learn to compare.
        output: "tanh", the paper's; or "clip", the convolution's value limited to -1..1, by which black and white are
            reached exactly.
    """

    def __init__(self, channels: Sequence[int] = (4, 8, 8), block: int = 1, merge: str = "concatenate",
                 norm: str = "batch", output: str = "tanh"):
        super().__init__()
        if len(channels) != 3 or min(channels) < 1 or channels[2] % 2:
            raise FusionError(f"channels must be three positive numbers, the last one even, but are {tuple(channels)}.")
        if block < 1:
            raise FusionError(f"block must be a positive number, but is {block}.")
        for name, value, known in (("merge", merge, MERGES), ("norm", norm, NORMS), ("output", output, OUTPUTS)):
            if value not in known:
                raise FusionError(f"{name} must be one of {', '.join(known)}, but is {value!r}.")
        self.config = {"channels": [int(c) for c in channels], "block": int(block), "merge": merge, "norm": norm,
                       "output": output}
        self.block, self.feature_channels, self.merge = int(block), int(channels[2]), MERGES[merge]
        self.ir_encoder = Encoder(channels, self.block, norm)
        self.vi_encoder = Encoder(channels, self.block, norm)
        self.decoder = Decoder(self.feature_channels, self.block, norm, OUTPUTS[output]())

    @torch.no_grad()
    def init_identity(self, strength: float = 1.0) -> None:
        """Add `strength` at the centre of the kernels, so that every channel passes on its input (as nn.init.dirac_).

        The loss ignores the sign of an edge. From random weights alone, half of short trainings therefore ended with
        the edges of the visible image inverted, dark for bright; of ten with strength 1, none did. Not in the paper.
        """
        for layer in (module for module in self.modules() if isinstance(module, nn.Conv2d)):
            outputs, inputs = layer.weight.shape[:2]
            for k in range(max(outputs, inputs)):
                layer.weight[k % outputs, k % inputs, 1, 1] += strength

    @torch.no_grad()
    def init_maximum(self, noise: float = 0.5) -> None:
        """Let the network begin as the maximum of both images, from which training moves on. Not in the paper.

        The first channels of each encoder pass on the image, and the decoder the larger of both. All other channels
        begin at random, their weights multiplied by `noise`, and reach the result with a fifth of that. So the tone is
        right and no edge is inverted from the first step on, whatever the seed.

        Raises:
            FusionError: another `merge` than "max-min", another `norm` than "none", which would undo it, or fewer
                channels than a block has pixels.
        """
        n, has = self.block**2, self.config
        if (has["merge"], has["norm"]) != ("max-min", "none") or min(*has["channels"], has["channels"][2] // 2) < n:
            raise FusionError(f'a network that begins as the maximum needs merge "max-min", norm "none" and layers of '
                              f"at least {n} channels, but has {has}.")
        for layer in (module for module in self.modules() if isinstance(module, nn.Conv2d)):
            layer.weight *= noise
            layer.bias.zero_()
        first, second, last, _ = self.decoder
        for layer in (*self.ir_encoder, *self.vi_encoder, first, second):
            layer[0].weight[:n] = 0
            layer[0].weight[:n, :n, 1, 1] = torch.eye(n)  # a pixel of a block to the same pixel
        last.weight *= 0.2
        last.weight[:, :n] = 0
        last.weight[:, :n, 1, 1] = 2 * torch.eye(n)  # 0..1 to -1..1
        last.bias.fill_(-1)

    def encode(self, ir: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the infrared image and of the visible luma: two [B,1,H,W] in 0..1 -> two [B,c3,h,w].

        h and w are H and W for single pixels, otherwise the numbers of blocks, rounded up.
        """
        if ir.shape != y.shape or ir.dim() != 4 or ir.shape[1] != 1:
            raise FusionError("The infrared image and the visible luma must both be [B,1,H,W] of one size, but are "
                              f"{list(ir.shape)} and {list(y.shape)}: resize or register one to the other.")
        return self.ir_encoder(ir), self.vi_encoder(y)

    def decode(self, f_ir: Tensor, f_vi: Tensor) -> Tensor:
        """Fused luma from both features: two [B,c3,h,w] -> [B,1,h*block,w*block] in 0..1."""
        return (self.decoder(self.merge(f_ir, f_vi)) + 1) / 2

    def forward(self, ir: Tensor, y: Tensor) -> Tensor:
        """Fused luma: two [B,1,H,W] in 0..1 -> [B,1,H,W] in 0..1."""
        return crop(self.decode(*self.encode(ir, y)), *ir.shape[2:])
