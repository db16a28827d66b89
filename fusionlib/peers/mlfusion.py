"""MLFusion: fuses images of different sizes at a chosen size, with a separate kernel for each pixel."""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d, pad, pixel_shuffle

from fusionlib.inference.tiling import mirrored
from fusionlib.peers.layers import Dense, Named, Residual
from fusionlib.peers.peer import Peer

_WIDTH, _DENSE, _META = 64, 32, 8  # channels: of the features, of a unit in their blocks, of the resampled maps
_ROWS = 64  # resampled at once


class MLFusion(Peer):
    """Li et al., Different Input Resolutions and Arbitrary Output Resolution, IEEE TIP 30, 4070-4083, 2021.

    1,994,838 parameters; `RCMs.*.conv_after_meta_down` are in the release but never called. Takes three channels BGR in
    0..1; infrared may differ in size from the visible image, which decides the size of the output. One factor r = max(H
    / H_in, W / W_in) scales both sides of an image, from the top left corner, so images of different aspect ratios end
    at different places. Training saw r of 1 to 3. Outputs reach hundreds; the stretch to the range of the image is the
    network's last step. The release is "free for research purposes only"; the user provides the weights.
    """

    channels = 3
    order = "BGR"
    always_stretch = True
    one_size = False
    bytes_per_pixel = 3800

    def __init__(self):
        super().__init__()
        self.f_net = _feature_net()
        self.meta_up_0 = _Resample()
        self.PA = _PositionAttention()
        self.attention_AB_cat_CONV = _conv(3 * _META, _META, 1)
        self.attention_max_fuse_CONV = _conv(2 * _META, _META, 1)
        self.RCMs = nn.ModuleList(_Compensation() for _ in range(2))
        self.conv_final_ab, self.conv_final_fuse = (nn.Sequential(nn.Conv2d(_META, 3, 3, padding=1)) for _ in range(2))

    def forward(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Fuse `ir` [B,3,h,w] and `visible` [B,3,H,W] in 0..1 to [B,3,H,W] without a scale."""
        return self.super_resolve(ir, visible, visible.shape[-2:])[0]

    def super_resolve(self, ir: Tensor, visible: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """The fused, infrared and visible image [B,3,*size] at the (height, width) `size`, without a scale."""
        images = (ir, visible)
        factors = [max(size[0] / image.shape[-2], size[1] / image.shape[-1]) for image in images]
        features = [self.f_net(image) for image in images]
        maps = [self.meta_up_0(f, r, size) for f, r in zip(features, factors)]
        fused = torch.cat((stronger(*map(self._attend, maps)), stronger(*maps)), 1)
        fused = self.attention_max_fuse_CONV(fused)
        for module in self.RCMs:
            errors = [module(m, f, r) for m, f, r in zip(maps, features, factors)]
            maps = [m + error for m, error in zip(maps, errors)]
            fused = fused + stronger(*errors)
        return self.conv_final_fuse(fused), *map(self.conv_final_ab, maps)

    def _attend(self, f):
        return self.attention_AB_cat_CONV(torch.cat((f, f * channel_weights(f), f * self.PA(f)), 1))


def stronger(a: Tensor, b: Tensor) -> Tensor:
    """Elementwise the value of larger magnitude; the sum where magnitudes are equal."""
    return torch.where(a.abs() > b.abs(), a, torch.where(a.abs() < b.abs(), b, a + b))


def channel_weights(f: Tensor) -> Tensor:
    """Softmax [B,C,1,1] of the summed products of each channel of `f` [B,C,H,W] with all, stretched to 0..1."""
    flat = f.flatten(2)
    sums = (flat @ flat.mT).sum(-1)
    low, high = sums.amin(1, keepdim=True), sums.amax(1, keepdim=True)
    return ((sums - low) / (high - low).clamp_min(1e-12)).softmax(1)[..., None, None]


class _Resample(nn.Module):
    """Scale [B,8,h,w] by r with 3x3 kernels that a small network predicts for each output pixel.

    Output pixel i lies at i / r; its kernel depends on the fractional part and covers the 3x3 pixels around the integer
    part. All kernels at once would take 2,304 bytes per pixel, so they are predicted for one fraction of the rows at a
    time, and once for pixels that share it: at r = 1 this is a convolution.
    """

    def __init__(self):
        super().__init__()
        block = nn.Sequential(nn.Linear(3, 256), nn.LeakyReLU(0.2), nn.Linear(256, _META * 3 * 3 * _META))
        self.P2W = Named(meta_block=block)

    def forward(self, f, r, size):
        step = torch.tensor(1 / r, dtype=torch.float32, device=f.device)  # float32 decides which pixel is meant
        (top, y_fraction), (left, x_fraction) = (_project(n, step, old) for n, old in zip(size, f.shape[-2:]))
        fractions, column = x_fraction.unique(return_inverse=True)
        near = torch.arange(3, device=f.device)
        padded, out = pad(f, (1, 1, 1, 1)), f.new_empty((len(f), _META, *size))
        for y in y_fraction.unique():
            where = torch.stack((step.expand_as(fractions), y.expand_as(fractions), fractions), 1)
            kernels = self.P2W(where.to(f.dtype)).view(-1, _META, 3, 3, _META)[column]
            for rows in (y_fraction == y).nonzero()[:, 0].split(_ROWS):
                patches = padded[:, :, (top[rows, None] + near)[..., None, None], left[:, None] + near]
                out[:, :, rows] = torch.einsum("bcrywx,wcyxo->borw", patches, kernels)
        return out


def _project(n, step, old):
    """Positions of `n` pixels among `old` ones: integer part, clamped to the last pixel, and fractional part."""
    at = torch.arange(n, device=step.device) * step
    return at.floor().long().clamp_max(old - 1), at - at.floor()


class _Compensation(nn.Module):
    """The difference of the features to the downscaled map, upscaled to the size of the map."""

    def __init__(self):
        super().__init__()
        self.meta_f_down, self.meta_error_up = _Resample(), _Resample()
        self.conv_after_meta_down = _conv(_META, _META, 3)  # in the release's files, never called

    def forward(self, upscaled, features, r):
        error = features - self.meta_f_down(upscaled, 1 / r, features.shape[-2:])
        return self.meta_error_up(error, r, upscaled.shape[-2:])


class _PositionAttention(nn.Module):
    """A weight in 0..1 for each pixel. Padding by reflection to sides in multiples of 4 is our choice."""

    def __init__(self):
        super().__init__()
        self.PA_module = nn.ModuleDict(dict(conv1=_conv(1, 8, 3), conv2=_conv(8, 16, 3), conv_k1=_conv(12, 4, 1)))

    def forward(self, f):
        height, width = f.shape[-2:]
        mean = mirrored(f.mean(1, keepdim=True), (0, -width % 4, 0, -height % 4))
        half = self.PA_module["conv1"](max_pool2d(mean, 2))
        quarter = self.PA_module["conv2"](avg_pool2d(half, 2))
        both = self.PA_module["conv_k1"](torch.cat((half, pixel_shuffle(quarter, 2)), 1))
        return pixel_shuffle(both, 2).sigmoid()[..., :height, :width]


def _feature_net():
    """[B,3,H,W] -> [B,8,H,W]; shared by both images."""
    return Named(
        conv0=_conv(3, _WIDTH, 3), FENet=Residual(**{str(i): _DilatedBlock() for i in range(6)}),
        conv_before_meta=_conv(_WIDTH, _META, 1),
    )


class _DilatedBlock(nn.Module):
    """Three branches of increasing dilation, the middle one dense: [B,64,H,W] -> [B,64,H,W]."""

    def __init__(self):
        super().__init__()
        self.conv0 = _conv(_WIDTH, _DENSE, 3)
        self.DConv_r1 = Named(Conv=_unit(_DENSE, 1, 1))
        self.DConv_r3 = nn.Sequential(*(Dense(Conv=_unit(n * _DENSE, 3, 3)) for n in (1, 2, 3, 4)))
        self.DConv_r5 = Named(Conv=_unit(_DENSE, 5, 5))
        self.conv_k1 = _conv((1 + 5 + 1) * _DENSE, _WIDTH, 1)

    def forward(self, x):
        y = self.conv0(x)
        return x + self.conv_k1(torch.cat((self.DConv_r1(y), self.DConv_r3(y), self.DConv_r5(y)), 1))


def _unit(channels, kernel, dilation):
    dilated = nn.Conv2d(_DENSE, _DENSE, 3, padding=dilation, dilation=dilation)
    return nn.Sequential(*_conv(channels, _DENSE, kernel), dilated, nn.PReLU())


def _conv(inputs, outputs, kernel):
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.LeakyReLU(0.2))
