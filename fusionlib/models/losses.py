"""The loss of stage 1, and the fidelity term of stage 2 (paper section 3.2)."""

import torch
from kornia.filters import spatial_gradient
from torch import Tensor, nn


def sobel(image: Tensor) -> Tensor:
    """Edge strength |Sobel_x| + |Sobel_y|: [B,1,H,W] -> [B,1,H,W], replicate padding, kernels not normalised."""
    return spatial_gradient(image, mode="sobel", order=1, normalized=False).abs().sum(dim=2)


class FusionLoss(nn.Module):
    """L_f = intensity * L_int + edge * L_edge.

    L_int = mean |F - max(IR, Y)| and L_edge = mean |S(F) - max(S(IR), S(Y))| with S = |Sobel_x| + |Sobel_y|.
    The paper names the l1 norm, Sobel and the weight 0.2; the form of the terms is inferred.
    """

    def __init__(self, intensity: float = 0.2, edge: float = 1.0):
        super().__init__()
        self.intensity, self.edge = intensity, edge

    def forward(self, fused: Tensor, ir: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Three [B,1,H,W] in 0..1 -> (total, {"intensity", "edge"} unweighted and detached)."""
        fused = fused.float()  # under autocast, sums of small differences need float32
        intensity = (fused - torch.maximum(ir, y)).abs().mean()
        edge = (sobel(fused) - torch.maximum(sobel(ir), sobel(y))).abs().mean()
        total = self.intensity * intensity + self.edge * edge
        return total, {"intensity": intensity.detach(), "edge": edge.detach()}
