"""EMMA's fusion network: two small U-Nets of parallel Restormer and convolution blocks, fused at each scale."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from fusionlib.models.fusion_network import convolution
from fusionlib.peers.cddfuse import BaseFeature
from fusionlib.peers.layers import Named, Residual
from fusionlib.peers.peer import Peer

WIDTHS = (8, 16, 32, 32)


class EMMA(Peer):
    """EMMA's Ufuser, the fusion network of the method.

    Zhao, Bai, Zhang, Zhang, Zhang, Xu, Chen, Timofte, Van Gool: Equivariant Multi-Modality Image Fusion, CVPR 2024.

    1,517,657 parameters. Takes infrared and luma [B,1,H,W] in 0..1 with sides in multiples of 32, gives [B,1,H,W] in
    0..1 (after the sigmoid). The release has no licence; the user provides the weights.

    As in the release, an image of other sides is not padded but fused as tiles of fitting size in its corners, and
    results are stretched to their own minimum and maximum on saving (`official_postprocess`). How the release joins the
    tiles is not described; here overlaps are averaged, which leaves no seams.
    Attention between channels runs over all pixels, so tiles do not give the result of the whole image. At the first
    scale each of 8 heads has one channel, so attention passes its values on and its scale has no effect.
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
            up = nn.ConvTranspose2d(width, above, 4, stride=2, padding=1, bias=False)
            self.add_module(f"up{scale + 1}", nn.Sequential(up, nn.ReLU()))
        self.last = nn.Sequential(convolution(WIDTHS[0], 1), nn.Sigmoid())

    def forward(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Fuse [B,1,H,W] and [B,1,H,W] in 0..1, H and W multiples of 32, to [B,1,H,W] in 0..1."""
        layers, fused = self._modules, []
        for scale in range(1, 5):
            if scale > 1:
                ir, visible = layers[f"I_down{scale - 1}"](ir), layers[f"V_down{scale - 1}"](visible)
            ir, visible = layers[f"I_en_{scale}"](ir), layers[f"V_en_{scale}"](visible)
            fused.append(layers[f"f_{scale}"](torch.cat((ir, visible), 1)))
        x = self.de_4(fused[3])
        for scale in (3, 2, 1):
            x = layers[f"up{scale + 1}"](x)
            x = layers[f"de_{scale}"](torch.cat((x, fused[scale - 1]), 1))
        return self.last(x)

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
    """Slices of the largest multiple that fits into a side, at its start and at its end; one slice if they coincide."""
    length = side - side % multiple
    return [slice(start, start + length) for start in sorted({0, side - length})]


def _down(width):
    return nn.Conv2d(width, width, 3, stride=2, padding=1, padding_mode="reflect", bias=False)


class _Block(nn.Module):
    """Global channel attention parallel to convolutions, merged by a convolution: [B,in,H,W] -> [B,C,H,W]."""

    def __init__(self, before, width):
        super().__init__()
        self.embed = convolution(before, width, bias=False)
        self.GlobalFeature = BaseFeature(width, padding_mode="reflect")
        self.LocalFeature = Named(Extraction=nn.Sequential(_residual(width), _residual(width)))
        self.FFN = convolution(2 * width, width, bias=False)

    def forward(self, x):
        x = self.embed(x)
        return self.FFN(torch.cat((self.GlobalFeature(x), self.LocalFeature(x)), 1))


def _residual(width):
    return Residual(conv=nn.Sequential(convolution(width, width), nn.ReLU(), convolution(width, width)))
