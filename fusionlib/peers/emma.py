"""EMMA's fusion network: a small U-Net per modality, fused at every scale, of Restormer and convolution in parallel."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from fusionlib.models.fusion_network import convolution
from fusionlib.peers.cddfuse import BaseFeature
from fusionlib.peers.layers import named
from fusionlib.peers.peer import Peer

WIDTHS = (8, 16, 32, 32)


class EMMA(Peer):
    """EMMA's Ufuser, the part of the method that fuses.

    Zhao, Bai, Zhang, Zhang, Zhang, Xu, Chen, Timofte, Van Gool: Equivariant Multi-Modality Image Fusion, CVPR 2024.

    1,517,657 parameters. Takes infrared and luma [B,1,H,W] in 0..1 with sides in multiples of 32, gives [B,1,H,W] in
    0..1 (after the sigmoid). The release has no licence: its weights come from the user.

    Kept from the release: an image of other sides is not padded but fused as the tiles of fitting size in its corners,
    and the result is stretched to its own minimum and maximum when it is saved (`official_postprocess`). How the
    release joins the tiles is not described; here overlaps are averaged, which leaves no seams.
    Attention runs between channels over all pixels: a tile does not give what the whole image gives. At the first scale
    each of 8 heads has one channel, so that attention there passes its values on and its scale has no effect.
    """

    multiple = 32
    official_stretch = True
    bytes_per_pixel = 800

    def __init__(self):
        super().__init__()
        inputs = (1, *WIDTHS[:-1])
        for scale, (before, width) in enumerate(zip(inputs, WIDTHS), 1):
            self.add_module(f"V_en_{scale}", _Block(before, width))
            self.add_module(f"I_en_{scale}", _Block(before, width))
            self.add_module(f"f_{scale}", _Block(2 * width, width))
            self.add_module(f"de_{scale}", _Block(width if scale == 4 else 2 * width, width))
        for scale, (above, width) in enumerate(pairwise(WIDTHS), 1):
            self.add_module(f"V_down{scale}", _down(above))
            self.add_module(f"I_down{scale}", _down(above))
            self.add_module(f"up{scale + 1}", nn.Sequential(
                nn.ConvTranspose2d(width, above, 4, stride=2, padding=1, bias=False), nn.ReLU()
            ))
        self.last = nn.Sequential(convolution(WIDTHS[0], 1), nn.Sigmoid())

    def forward(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Fuse [B,1,H,W] and [B,1,H,W] in 0..1, H and W multiples of 32, to [B,1,H,W] in 0..1."""
        fused = []
        for scale in range(1, 5):
            if scale > 1:
                ir, visible = self._part("I_down", scale - 1)(ir), self._part("V_down", scale - 1)(visible)
            ir, visible = self._part("I_en_", scale)(ir), self._part("V_en_", scale)(visible)
            fused.append(self._part("f_", scale)(torch.cat((ir, visible), 1)))
        x = self.de_4(fused[3])
        for scale in (3, 2, 1):
            x = self._part("up", scale + 1)(x)
            x = self._part("de_", scale)(torch.cat((x, fused[scale - 1]), 1))
        return self.last(x)

    def _part(self, name, scale):
        return self.get_submodule(f"{name}{scale}")

    def _fitted(self, ir, visible, text):
        height, width = ir.shape[-2:]
        rows, columns = _corners(height, self.multiple), _corners(width, self.multiple)
        if min(height, width) < self.multiple or len(rows) == len(columns) == 1:
            return super()._fitted(ir, visible, text)
        total, count = torch.zeros_like(ir), torch.zeros_like(ir)
        for row in rows:
            for column in columns:
                total[..., row, column] += self._whole_or_tiled(ir[..., row, column], visible[..., row, column], text)
                count[..., row, column] += 1
        return total / count


def _corners(side, multiple):
    """The first and the last part of a side that are as long as multiples go; one part where that is all of it."""
    length = side - side % multiple
    return [slice(start, start + length) for start in sorted({0, side - length})]


def _down(width):
    return nn.Conv2d(width, width, 3, stride=2, padding=1, padding_mode="reflect", bias=False)


class _Block(nn.Module):
    """Channel attention over the whole image beside convolutions, joined by a convolution: [B,in,H,W] -> [B,C,H,W]."""

    def __init__(self, before, width):
        super().__init__()
        self.embed = convolution(before, width, bias=False)
        self.GlobalFeature = BaseFeature(width, padding_mode="reflect")
        self.LocalFeature = named(Extraction=nn.Sequential(_Residual(width), _Residual(width)))
        self.FFN = convolution(2 * width, width, bias=False)

    def forward(self, x):
        x = self.embed(x)
        return self.FFN(torch.cat((self.GlobalFeature(x), self.LocalFeature(x)), 1))


class _Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Sequential(convolution(width, width), nn.ReLU(), convolution(width, width))

    def forward(self, x):
        return x + self.conv(x)
