"""Baselines without training: mean, maximum and Laplacian pyramids of infrared and luma."""

import torch
from kornia.geometry.transform import pyrdown, pyrup
from torch import Tensor

from fusionlib.peers.peer import Peer


class Mean(Peer):
    """The mean of infrared and luma, pixel by pixel."""

    halo = 0
    bytes_per_pixel = 8

    def forward(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Two [B,1,H,W] -> [B,1,H,W]."""
        return (ir + visible) / 2


class Maximum(Peer):
    """The maximum of infrared and luma, pixel by pixel."""

    halo = 0
    bytes_per_pixel = 4

    def forward(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Two [B,1,H,W] -> [B,1,H,W]."""
        return torch.maximum(ir, visible)


class Laplacian(Peer):
    """Laplacian pyramid of four levels: the detail of larger magnitude at each level, the mean of the base.

    Sides must be multiples of 16, to which `fuse` pads. kornia's levels average two pixels after the 5x5 blur. Burt and
    Adelson, The Laplacian pyramid as a compact image code, IEEE Transactions on Communications 31(4), 1983.
    """

    LEVELS = 4
    multiple = 2**LEVELS
    halo = 80
    bytes_per_pixel = 110

    def forward(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Two [B,1,H,W] -> [B,1,H,W]; sharp edges of opposite contrast can leave 0..1 slightly."""
        return self._fused(ir, visible, self.LEVELS)

    def _fused(self, ir, visible, levels):
        if levels == 0:
            return self._base(ir, visible)
        # Replicate padding: the last levels of a small image have too few pixels to reflect.
        reduced_ir, reduced_visible = (pyrdown(image, "replicate") for image in (ir, visible))
        detail_ir, detail_visible = ir - pyrup(reduced_ir, "replicate"), visible - pyrup(reduced_visible, "replicate")
        detail = torch.where(detail_ir.abs() >= detail_visible.abs(), detail_ir, detail_visible)
        return detail + pyrup(self._fused(reduced_ir, reduced_visible, levels - 1), "replicate")

    @staticmethod
    def _base(ir, visible):
        return (ir + visible) / 2


class LaplacianMax(Laplacian):
    """The same Laplacian pyramid, but with the maximum of the base."""

    @staticmethod
    def _base(ir, visible):
        return torch.maximum(ir, visible)
