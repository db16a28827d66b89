"""The colour space of the method: luma is fused, chroma is the visible image's (paper section 3.2)."""

import torch
from kornia.color import rgb_to_ycbcr, ycbcr_to_rgb


def split_luma(visible: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """RGB in 0..1 -> luma (0.299 R + 0.587 G + 0.114 B) and chroma Cb, Cr around 0.5.

    [B,3,H,W] -> [B,1,H,W] and [B,2,H,W]; or one image, [3,H,W] -> [1,H,W] and [2,H,W].
    """
    return rgb_to_ycbcr(visible).split((1, 2), dim=-3)


def merge_luma(y: torch.Tensor, cbcr: torch.Tensor) -> torch.Tensor:
    """Luma [B,1,H,W] and chroma [B,2,H,W] -> RGB [B,3,H,W], clipped to 0..1; inverse of `split_luma` to 1e-6.

    One image alike: [1,H,W] and [2,H,W] -> [3,H,W].
    """
    return ycbcr_to_rgb(torch.cat([y, cbcr], dim=-3)).clamp(0, 1)
