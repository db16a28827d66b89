"""Metrics of signal fidelity: VIF, MSE and PSNR. Images as in `fusionlib.metrics.windows`."""

import torch

from fusionlib.metrics.windows import double, gaussian, valid

SMALLEST = 41  # pixels a side that leave one window of 3x3 at the coarsest of four scales


def _pixel_vif(source, fused):
    """VIF of the fused image with respect to one source, in the pixel domain, float64 [B, C]."""
    noise, tiny = 2.0, 1e-10
    kept = total = 0
    for scale in range(4):
        size = 2 ** (4 - scale) + 1
        taps = gaussian(size, size / 5)
        if scale:
            source, fused = (valid(image, taps)[..., ::2, ::2] for image in (source, fused))
        mean_s, mean_f = valid(source, taps), valid(fused, taps)
        var_s = (valid(source * source, taps) - mean_s * mean_s).clamp_min(0)
        var_f = (valid(fused * fused, taps) - mean_f * mean_f).clamp_min(0)
        covariance = valid(source * fused, taps) - mean_s * mean_f
        gain = covariance / (var_s + tiny)
        rest = var_f - gain * covariance
        flat = var_s < tiny  # nothing to see: all that the fused image has there is noise
        gain, rest = torch.where(flat, 0, gain), torch.where(flat, var_f, rest)
        var_s = torch.where(flat, 0, var_s)
        flat = var_f < tiny
        gain, rest = torch.where(flat, 0, gain), torch.where(flat, 0, rest)
        rest = torch.where(gain < 0, var_f, rest).clamp_min(tiny)
        gain = gain.clamp_min(0)
        kept = kept + torch.log10(1 + gain * gain * var_s / (rest + noise)).sum((-2, -1))
        total = total + torch.log10(1 + var_s / noise).sum((-2, -1))
    return torch.where(total > 0, kept / total, 1.0)


def vif_sum(fused: torch.Tensor, ir: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """VIF(ir, fused) + VIF(visible, fused): how much of the information that the eye gets from the sources is left.

    Range 0 and up, 2 when nothing is lost, more with enhanced contrast; higher is better. A flat source has nothing to
    lose and counts as 1. Images of at least 41x41 pixels. It is the multi-scale VIF in the pixel domain, which some
    call VIFF; the VIFF of Han et al. 2013 is another metric.

    Reference: Sheikh and Bovik, Image information and visual quality, IEEE Transactions on Image Processing 15(2),
    2006.
    """
    fused, ir, visible = double(fused), double(ir), double(visible)
    return _pixel_vif(ir, fused) + _pixel_vif(visible, fused)


def mean_squared_error(
    fused: torch.Tensor, ir: torch.Tensor, visible: torch.Tensor, peak: float = 255
) -> torch.Tensor:
    """MSE: mean of the squared errors to the two sources, for gray values 0..peak. Lower is better; 0 is equality."""
    errors = [(fused - source).square().mean((-2, -1)) for source in (ir, visible)]
    return sum(errors) / 2 * (peak / 255) ** 2


def root_error_over_pixels(fused: torch.Tensor, ir: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """What VIFB prints as RMSE and uses as MSE: the root of the summed squared errors over the number of pixels.

    The mean over the two sources; lower is better. It shrinks as images grow.
    """
    pixels = fused.shape[-2] * fused.shape[-1]
    return sum((fused - source).square().sum((-2, -1)).sqrt() / pixels for source in (ir, visible)) / 2


def psnr_of_root_error(fused: torch.Tensor, ir: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """PSNR as VIFB has it: 20 log10(255 / sqrt(e)) dB with e of `root_error_over_pixels`, around 60. Higher is better.

    Infinite where the fused image equals both sources.
    """
    return 10 * torch.log10(255**2 / root_error_over_pixels(fused, ir, visible))


def psnr_of_unit_error(fused: torch.Tensor, ir: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """PSNR as Tang's code has it: the peak is 255 but the error that of images 0..1, so 48.13 dB above the usual value.

    Higher is better; infinite where the fused image equals both sources.
    """
    return 10 * torch.log10(255**2 / mean_squared_error(fused, ir, visible, peak=1))


def psnr_of_maximum(fused: torch.Tensor, ir: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """PSNR in dB with the fused image's own maximum as its peak, as CDDFuse's code has it. Higher is better.

    Infinite where the fused image equals both sources, minus infinity where it alone is black, NaN where all are.
    """
    return 10 * torch.log10(fused.amax((-2, -1)).square() / mean_squared_error(fused, ir, visible))
