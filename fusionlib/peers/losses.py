"""Loss terms shared by the training recipes of the compared methods, and VGG16."""

from pathlib import Path

import torch
from kornia import metrics
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from torchvision.models import vgg16

from fusionlib.models.losses import gradients, sobel
from fusionlib.peers import checkpoints
from fusionlib.utils.errors import FusionError

Terms = tuple[Tensor, dict[str, Tensor]]


def total(**terms: tuple[float, Tensor]) -> Terms:
    """The weighted sum of terms, and the terms, unweighted and detached: name=(weight, term)."""
    return sum(weight * term for weight, term in terms.values()), {k: term.detach() for k, (_, term) in terms.items()}


def ssim(x: Tensor, y: Tensor, window: int = 11) -> Tensor:
    """SSIM of each image, two [B,C,H,W] in 0..1 -> [B] in -1..1; Gaussian window of sigma 1.5, reflect padding.

    Wang et al., Image quality assessment: from error visibility to structural similarity, IEEE TIP 13(4), 2004.
    """
    return metrics.ssim(x, y, window).mean((1, 2, 3))


def weighted_ssim(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """SSIM with each source, weighted by the sources' mean edge strength: three [B,C,H,W] -> [B].

    The weights of each image sum to 1 and are equal for two flat sources. Ma et al., SwinFusion, IEEE/CAA JAS 9(7),
    2022.
    """
    strength_a, strength_b = (sobel(x).mean((1, 2, 3)) + 1e-8 for x in (a, b))
    weight = strength_a / (strength_a + strength_b)
    return weight * ssim(a, fused) + (1 - weight) * ssim(b, fused)


def directed_edges(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of |Sobel_x| and of |Sobel_y| to the larger of two sources [B,C,H,W]."""
    fused, a, b = (gradients(x).abs() for x in (fused, a, b))
    return (fused - torch.maximum(a, b)).abs().mean()


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """Mean Pearson correlation of channels: two [B,C,H,W] -> scalar; 0 for a flat channel."""
    x, y = (z.flatten(2) - z.flatten(2).mean(2, keepdim=True) for z in (x, y))
    return cosine_similarity(x, y, dim=2).mean()


def decomposition(base: tuple[Tensor, Tensor], detail: tuple[Tensor, Tensor]) -> Tensor:
    """CC(details)^2 / (CC(bases) + 1.01): low where bases correlate and details do not. Zhao et al., CDDFuse, 2023."""
    return correlation(*detail) ** 2 / (correlation(*base) + 1.01)


def gram(features: Tensor) -> Tensor:
    """Gram matrix of the channels, divided by the number of values: [B,C,H,W] -> [B,C,C]."""
    flat = features.flatten(2)
    return flat @ flat.mT / flat[0].numel()


class VGG16(nn.Module):
    """Features relu1_2, relu2_2, relu3_3 and relu4_3 of VGG16, frozen; gray [B,1,H,W] is repeated to three channels.

    `path` is torchvision's state dict of vgg16, vgg16-397923af.pth or a copy as .safetensors. Simonyan and Zisserman,
    Very deep convolutional networks for large-scale image recognition, ICLR 2015.

    Raises:
        FusionError: the file is missing, or is not a state dict of VGG16.
    """

    TAPS = (3, 8, 15, 22)

    def __init__(self, path: str | Path):
        super().__init__()
        with torch.device("meta"):
            self.features = vgg16().features[: self.TAPS[-1] + 1]
        state, expected = checkpoints.read(Path(path)), self.state_dict()
        wrong = [name for name, value in expected.items() if name not in state or state[name].shape != value.shape]
        if wrong:
            raise FusionError(f"{path}: expected torchvision's state dict of vgg16, found no fitting {wrong[0]}; save "
                              "torchvision.models.vgg16(weights='DEFAULT').state_dict() and give that file")
        self.load_state_dict({name: state[name] for name in expected}, assign=True)
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Four maps [B,64,H,W], [B,128,H/2,W/2], [B,256,H/4,W/4] and [B,512,H/8,W/8]."""
        x, maps = image.expand(-1, 3, -1, -1), []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.TAPS:
                maps.append(x)
        return maps
