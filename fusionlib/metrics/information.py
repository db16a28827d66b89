"""Metrics of information theory, from histograms of 256 gray values: EN, MI and CE.

Images as in `fusionlib.metrics.windows`; gray values are whole numbers.
"""

import torch

from fusionlib.metrics.windows import stretch


def _histogram(index, bins):
    """Relative frequencies of the numbers 0..bins-1 in each [H, W]: int64 [B, C, H, W] -> float32 [B, C, bins]."""
    batch, channels = index.shape[:2]
    offset = torch.arange(batch * channels, device=index.device).mul(bins).view(batch, channels, 1, 1)
    counts = torch.bincount((index + offset).flatten(), minlength=batch * channels * bins)
    return counts.view(batch, channels, bins) / (index.shape[-2] * index.shape[-1])


def _information(probabilities):
    """-sum p ln p over the last axis, with 0 ln 0 = 0: nats."""
    return torch.special.entr(probabilities).sum(-1)


def entropy(fused: torch.Tensor, ir: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """EN: Shannon entropy of the fused image in bits. Range 0..8, higher is better; 0 for a flat image.

    Reference: Roberts, van Aardt and Ahmed, Assessment of image fusion procedures using entropy, image quality, and
    multispectral classification, Journal of Applied Remote Sensing 2(1), 2008.
    """
    return _information(_histogram(fused.long(), 256)) / torch.log(torch.tensor(2.0))


def mutual_information(
    fused: torch.Tensor, ir: torch.Tensor, visible: torch.Tensor, stretched: bool = False, bits: bool = False
) -> torch.Tensor:
    """MI: I(ir, fused) + I(visible, fused), in nats, or in `bits`. Range 0 and up, higher is better.

    A flat image shares nothing: its part is 0. `stretched`: each image is taken to 0..255 by its own minimum and
    maximum first.

    Reference: Qu, Zhang and Yan, Information measure for performance of image fusion, Electronics Letters 38(7), 2002.
    """
    if stretched:
        fused, ir, visible = (stretch(image).nan_to_num(0) for image in (fused, ir, visible))
    total = 0
    for source in (ir, visible):
        joint = _histogram(source.long() * 256 + fused.long(), 256 * 256).unflatten(-1, (256, 256))
        total = total + _information(joint.sum(-1)) + _information(joint.sum(-2)) - _information(joint.flatten(-2))
    return total / torch.log(torch.tensor(2.0)) if bits else total


def cross_entropy(fused: torch.Tensor, ir: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """CE: mean relative entropy of the sources' histograms to the fused image's, in bits; lower is better.

    Only gray values that both images have are counted, so the result can be below 0, and images without a common gray
    value give 0.

    Reference: Bulanon, Burks and Alchanatis, Image fusion of visible and thermal images for fruit detection, Biosystems
    Engineering 103(1), 2009.
    """
    ours = _histogram(fused.long(), 256)
    total = 0
    for source in (ir, visible):
        theirs = _histogram(source.long(), 256)
        both = (ours > 0) & (theirs > 0)
        total = total + torch.where(both, theirs * (theirs / ours).log2(), 0).sum(-1)
    return total / 2
