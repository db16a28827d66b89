"""The losses of stage 1, which are the fidelity term of stage 2 too: the paper's (section 3.2), and the suite's."""

from collections.abc import Sequence

import torch
from kornia.filters import get_gaussian_kernel1d
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from fusionlib.utils.errors import FusionError


def gradients(image: Tensor) -> Tensor:
    """Sobel_x and Sobel_y with their signs: [B,C,H,W] -> [B,2C,H,W], replicate padding, kernels not normalised.

    Sums of slices: the gradients of a convolution of one channel take several times as long on a CPU.
    """
    image = pad(image, (1, 1, 1, 1), mode="replicate")
    across, down = image[..., 2:] - image[..., :-2], image[..., 2:, :] - image[..., :-2, :]
    x = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    y = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    return torch.cat([x, y], 1)


def gaussian(image: Tensor, sigma: float, window: int) -> Tensor:
    """Gaussian filter of `window` taps, an odd number, the image mirrored at its borders: [B,C,H,W] -> [B,C,H,W].

    Rows and columns are multiplied by a band matrix: as kornia's filter, but with gradients in a tenth of the time on a
    CPU.
    """
    kernel = get_gaussian_kernel1d(window, sigma, dtype=image.dtype, device=image.device)

    def band(size):
        source = torch.arange(size)[:, None] + torch.arange(window) - window // 2
        source = (size - 1 - (size - 1 - source.abs()).abs()).clamp_min(0).to(image.device)
        return torch.zeros(size, size).to(kernel).scatter_add_(1, source, kernel.expand_as(source))

    with torch.autocast(image.device.type, enabled=False):
        return band(image.shape[2]) @ image @ band(image.shape[3]).T


def sobel(image: Tensor) -> Tensor:
    """Edge strength |Sobel_x| + |Sobel_y|: [B,1,H,W] -> [B,1,H,W]."""
    return gradients(image).abs().sum(1, keepdim=True)


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


def stronger(a: Tensor, b: Tensor, whole: bool) -> Tensor:
    """At each pixel, of two gradients [B,2,H,W] the larger: as a whole, or in each direction the larger component."""
    size_a, size_b = ((g.square().sum(1, keepdim=True) if whole else g.abs()) for g in (a, b))
    return torch.where(size_a >= size_b, a, b)


def dissimilarity(fused: Tensor, ir: Tensor, y: Tensor, window: int = 11, sigma: float = 1.5) -> Tensor:
    """1 - mean SSIM of F with both sources, each [B,1,H,W] in 0..1, Gaussian window (Wang et al. 2004): scalar in 0..2.

    kornia's computes five two-dimensional convolutions for each source, and takes ten times as long.
    """
    images = torch.cat([fused, ir, y], 1)
    moments = torch.cat([images, images**2, fused * images[:, 1:]], 1)
    mean, square, product = gaussian(moments, sigma, window).split((3, 3, 2), 1)
    variance, mean_f, mean_s = square - mean**2, mean[:, :1], mean[:, 1:]
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_f * mean_s + c1) / (mean_f**2 + mean_s**2 + c1)
    structure = (2 * (product - mean_f * mean_s) + c2) / (variance[:, :1] + variance[:, 1:] + c2)
    return 1 - (luminance * structure).mean()


class MultiscaleFusionLoss(nn.Module):
    """The suite's loss: intensity * L_int + edge * L_edge + structure * L_ssim. Not the paper's.

    L_int = mean |G * (F - max(IR, Y))|, G a Gaussian of 2 pixels: the brightness of an area, not of each pixel.
    L_edge = mean over scales, each half as large as the one before and weighted by `scales`, of |D F - gain * D|. D is
    at each pixel the Sobel gradient of the source in which it is larger, at the smaller scales in each direction on its
    own, which leaves more of both sources. So edges keep their direction, dark on bright or bright on dark, and wide
    ones are edges too; the paper's L_edge sees neither. `gain` makes up for the l1 norm, which leads to the median
    where the network is in doubt, and so to weaker edges.
    L_ssim = 1 - the mean SSIM of F with both sources.
    """

    def __init__(self, intensity: float = 0.5, edge: float = 1.0, structure: float = 0.4,
                 scales: Sequence[float] = (4, 2, 2), gain: float = 1.1):
        super().__init__()
        self.intensity, self.edge, self.structure = intensity, edge, structure
        self.scales, self.gain = tuple(scales), gain

    def forward(self, fused: Tensor, ir: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Three [B,1,H,W] in 0..1 -> (total, {"intensity", "edge", "structure"} unweighted and detached)."""
        fused = fused.float()  # under autocast, sums of small differences need float32
        area = gaussian(fused - torch.maximum(ir, y), sigma=2.0, window=13)
        terms = {"intensity": area.abs().mean(), "edge": self._edge(fused, ir, y),
                 "structure": dissimilarity(fused, ir, y)}
        total = sum(getattr(self, name) * term for name, term in terms.items())
        return total, {name: term.detach() for name, term in terms.items()}

    def _edge(self, fused, ir, y):
        images, total = (fused, ir, y), 0
        for number, weight in enumerate(self.scales):
            if number and min(images[0].shape[2:]) > 1:
                images = [avg_pool2d(image, 2) for image in images]
            of_fused, of_ir, of_y = gradients(torch.cat(images)).chunk(3)  # one call takes less time than three
            target = self.gain * stronger(of_ir, of_y, whole=number == 0)
            total = total + weight * (of_fused - target).abs().sum(1).mean()
        return total / sum(self.scales)


#: By name, as in the setting `fusion_loss`.
FUSION_LOSSES = {"paper": FusionLoss, "multiscale": MultiscaleFusionLoss}


def fusion_loss(name: str) -> FusionLoss | MultiscaleFusionLoss:
    """The loss called `name`, a key of `FUSION_LOSSES`; raises FusionError for another name."""
    if name not in FUSION_LOSSES:
        raise FusionError(f"fusion_loss must be one of {', '.join(FUSION_LOSSES)}, but is {name!r}")
    return FUSION_LOSSES[name]()
