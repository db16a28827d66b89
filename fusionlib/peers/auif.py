"""AUIF: base and detail by unrolled optimisation, fused by addition."""

import torch
from kornia.filters import box_blur, laplacian
from torch import Tensor, nn
from torch.nn.functional import conv2d

from fusionlib.peers.layers import Named, reflected, to_one_channel
from fusionlib.peers.peer import Peer

LAYERS, FILTERS = 10, 64


class AUIF(Peer):
    """Zhao et al., Efficient and model-based infrared and visible image fusion via algorithm unrolling, TCSVT 2021.

    11,631 parameters. Two encoders, shared by both modalities, unroll ten steps of an optimisation each: one towards
    the base (low frequencies), one towards the detail. Bases are added, details are added, and the decoder sees the
    sum: the release's default rule. Takes infrared and luma [B,1,H,W], sides from 10 pixels, and gives [B,1,H,W] in
    0..1 after a sigmoid. The official weights darken night scenes to a third of the sources' mean brightness. The
    official code has no licence.
    """

    least = 10  # the Laplacian reflects 9 pixels at each edge
    halo = 30  # 9 of the 19x19 Laplacian, 2 of each of ten steps, 1 of the decoder
    bytes_per_pixel = 750

    def __init__(self):
        super().__init__()
        self.Encoder_Base = nn.ModuleDict({"conv1": nn.ModuleList(_Step() for _ in range(LAYERS))})
        self.Encoder_Detail = nn.ModuleDict({"conv2": nn.ModuleList(_Step() for _ in range(LAYERS))})
        self.Decoder = Named(decoder=nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(1, 1, 3, bias=False), nn.BatchNorm2d(1), nn.Sigmoid(),
        ))

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Base and detail [B,1,H,W] of an image [B,1,H,W] in 0..1."""
        base, detail = box_blur(image, 11), laplacian(image, 19)
        for step in self.Encoder_Base["conv1"]:
            base = step(base, image)
        for step in self.Encoder_Detail["conv2"]:
            detail = step(detail, image)
        return base, detail

    def decode(self, base: Tensor, detail: Tensor) -> Tensor:
        """The image [B,1,H,W] in 0..1 of a base and a detail [B,1,H,W]."""
        return self.Decoder(base + detail)

    def forward(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Fuse infrared and luma, two [B,1,H,W] in 0..1 -> [B,1,H,W] in 0..1."""
        return self.decode(*(of_ir + of_visible for of_ir, of_visible in zip(self.encode(ir), self.encode(visible))))


class _Step(nn.Module):
    """A gradient step on a feature [B,1,H,W], with learned filters, step size and balance of its terms."""

    def __init__(self):
        super().__init__()
        # With this variance, filters and transposed filters together preserve the scale of an image.
        self.kernel = nn.Parameter(torch.randn(FILTERS, 1, 3, 3) / (FILTERS * 9) ** 0.5)
        self.eta = nn.Parameter(torch.empty(1).normal_(0.1, 0.03))
        self.theta = nn.Parameter(torch.empty(1).normal_(1e-3, 1e-4))
        self.rest = nn.Sequential(nn.BatchNorm2d(1), nn.PReLU())

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        transposed = self.kernel.flip(2, 3).transpose(0, 1)
        response = to_one_channel(conv2d(reflected(x), self.kernel), transposed)
        return x - self.eta * (self.rest(response) - self.theta * (image - x))
