"""The colour space of the method: luma is fused, chroma is the visible image's (paper section 3.2)."""

import torch
from kornia.color import rgb_to_ycbcr, ycbcr_to_rgb


def split_luma(visible: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """RGB [...,3,H,W] in 0..1 -> luma .299 R + .587 G + .114 B [...,1,H,W] and chroma Cb, Cr [...,2,H,W] around 0.5."""
    return rgb_to_ycbcr(visible).split((1, 2), dim=-3)


def merge_luma(y: torch.Tensor, cbcr: torch.Tensor) -> torch.Tensor:
    """Luma [...,1,H,W] and chroma [...,2,H,W] -> RGB [...,3,H,W] in 0..1, clipped; inverse of `split_luma` to 1e-6."""
    return ycbcr_to_rgb(torch.cat([y, cbcr], dim=-3)).clamp(0, 1)
