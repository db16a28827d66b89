"""What needs no training: the mean, the maximum and the Laplacian pyramid of infrared and luma."""

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
    """Of each pyramid level the detail that is larger in magnitude, of the base the mean.

    Four levels below the image, so that the base has one pixel for 16x16. Sides are multiples of 16, which `fuse` sees
    to. Reference: Burt and Adelson, The Laplacian pyramid as a compact image code, IEEE Transactions on Communications
    31(4), 1983; kornia's levels, which average two pixels after the 5x5 blur.
    """

    LEVELS = 4
    multiple = 2**LEVELS
    halo = 80
    bytes_per_pixel = 110

    def forward(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Two [B,1,H,W] -> [B,1,H,W]; sharp contrast of opposite signs can leave 0..1 a little."""
        return self._fused(ir, visible, self.LEVELS)

    def _fused(self, ir, visible, levels):
        if levels == 0:
            return (ir + visible) / 2
        # Replicated borders: the last levels of a small image have too few pixels to mirror.
        small_ir, small_vi = (pyrdown(image, "replicate") for image in (ir, visible))
        detail_ir, detail_vi = ir - pyrup(small_ir, "replicate"), visible - pyrup(small_vi, "replicate")
        detail = torch.where(detail_ir.abs() >= detail_vi.abs(), detail_ir, detail_vi)
        return detail + pyrup(self._fused(small_ir, small_vi, levels - 1), "replicate")
