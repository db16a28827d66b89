"""Metrics of correlation: SCD and CC. Images as in `fusionlib.metrics.windows`."""

import torch


def pearson(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Pearson's correlation over all pixels, [B, C, H, W] twice -> [B, C]; NaN where one of the two is flat."""

    def centred(image):
        # Without the first pixel's value a flat image is zero, and so exactly zero after centring, in float32 too.
        image = image - image[..., :1, :1]
        return image.sub_(image.mean((-2, -1), keepdim=True)).flatten(-2)

    x, y = centred(x), centred(y)
    return torch.linalg.vecdot(x, y) / (torch.linalg.vecdot(x, x) * torch.linalg.vecdot(y, y)).sqrt()


def scd(fused: torch.Tensor, ir: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """SCD, the sum of the correlations of differences: what is not of one source should look like the other.

    Range -2..2, higher is better. NaN where a source is flat or the fused image equals a source (0/0).

    Reference: Aslantas and Bendes, A new image quality metric for image fusion: the sum of the correlations of
    differences, AEÜ International Journal of Electronics and Communications 69(12), 2015.
    """
    return pearson(fused - visible, ir) + pearson(fused - ir, visible)


def correlation_coefficient(fused: torch.Tensor, ir: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """CC: the mean of the fused image's correlations with its two sources.

    Range -1..1, higher is better. NaN where the fused image or a source is flat.

    Reference: Deshmukh and Bhosale, Image fusion and image quality assessment of fused images, International Journal of
    Image Processing 4(5), 2010.
    """
    return (pearson(fused, ir) + pearson(fused, visible)) / 2
