"""TIMFusion, a searched network in two stages, and its light variant in one."""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from fusionlib.peers.layers import DenseBlock, Named, Residual, ResidualModule, SpatialAttn, conv, preprocess, reflected
from fusionlib.peers.peer import Peer

_CHANNELS = 48
_SCALES = (_CHANNELS, 2 * _CHANNELS, 4 * _CHANNELS)  # channels at full, half and quarter scale


class TIMFusion(Peer):
    """Liu et al., A Task-guided, Implicitly-searched and Meta-initialized Deep Model for Image Fusion, 2023.

    arXiv 2305.15862; the cells are those that the release calls "fusion_M". 994,917 + 237,308 parameters; code and
    weights under the MIT licence. Gray images in 0..1, padded to multiples of 4. The first stage fuses, the second
    refines its result with each image. Means over the whole image rule out tiles; the output is not bounded.

    As in the release, with which its weights were trained, two of the three maps of the last mask are equal, and a
    third is 0.333. Unlike its test script, which leaves the second stage in training mode, where batch norms take the
    statistics of the image and results differ a lot, this is in evaluation mode; `peer.model_2.train()` follows the
    script.
    """

    multiple = 4
    bytes_per_pixel = 2800

    def __init__(self):
        super().__init__()
        self.model_1 = Named(
            stem=_stem(),
            cells=nn.Sequential(_FusionCell(), _cell(DenseBlock(_CHANNELS, 3, 0.333, _CHANNELS), _dilated(_CHANNELS))),
            stem_out=_stem_out(),
        )
        self.model_2 = _SecondStage()

    def forward(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Fuse two [B,1,H,W] in 0..1, sides multiples of 4, to an unbounded [B,1,H,W]."""
        return self.model_2(visible, ir, self.model_1(torch.cat([ir, visible], 1)))[-1]


class TIMFusionLight(Peer):
    """The light variant of TIMFusion: only a first stage, with two cells at full scale. 127,358 parameters.

    Same inputs and outputs as TIMFusion. The network does not need multiples of 4; the release pads to them.
    """

    multiple = 4
    bytes_per_pixel = 2600

    def __init__(self):
        super().__init__()
        self.stem, self.stem_out = _stem(), _stem_out()
        self.cells = nn.Sequential(*(_cell(ResidualModule(_CHANNELS, 3), _ChannelAttention()) for _ in range(2)))

    def forward(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Fuse two [B,1,H,W] in 0..1 to an unbounded [B,1,H,W]."""
        return self.stem_out(self.cells(self.stem(torch.cat([ir, visible], 1))))


class _SecondStage(nn.Module):
    """Refine a fused image with each source; a mask from the visible branch weights the two results."""

    def __init__(self):
        super().__init__()
        self.stem2, self.stem3 = _stem(nn.BatchNorm2d(_CHANNELS)), _stem(nn.BatchNorm2d(_CHANNELS))
        self.cells2 = nn.Sequential(*(_cell(Named(se=SpatialAttn(3)), _dilated(_CHANNELS)) for _ in range(2)))
        self.cells3 = nn.Sequential(*(_cell(_ChannelAttention(), Named(se=SpatialAttn(3))) for _ in range(2)))
        self.spa = Named(spatial=Named(conv=conv(3, 1, 1)), sigmoid=nn.Sigmoid())
        self.stem_out2, self.stem_out3 = _stem_out().append(nn.Tanh()), _stem_out().append(nn.Tanh())
        self.stem_out4 = nn.Sequential(_reflected(_CHANNELS, _CHANNELS, 3), *_last())

    def forward(self, visible, ir, fused):
        """All [B,1,H,W]; the auxiliary outputs of the visible and infrared branches, and the output."""
        u = self.cells3(self.stem2(torch.cat([visible, fused], 1)))
        v = self.cells2(self.stem3(torch.cat([ir, fused], 1)))
        highest = u.amax(1, keepdim=True)
        mask = self.spa(torch.cat([highest, highest, u.mean(1, keepdim=True)], 1))
        return self.stem_out2(u), self.stem_out3(v), self.stem_out4(mask * u + (1 - mask) * v)


class _FusionCell(nn.Module):
    """The same two operations at full, half and quarter scale, merged by selective fusion and added to the input."""

    def __init__(self):
        super().__init__()
        self.preprocess1 = preprocess(_CHANNELS)
        self._ops, self._ops_1, self._ops_2 = (
            _operations(ResidualModule(channels, 3), _dilated(channels)) for channels in _SCALES
        )
        self.down_2, self.down_4 = (Named(body=nn.Sequential(*map(_Down, _SCALES[:n]))) for n in (1, 2))
        self.upsample_2, self.upsample_4 = (Named(body=nn.Sequential(*map(_Up, _SCALES[n:0:-1]))) for n in (1, 2))
        self.SKFF = _SelectiveFusion(_CHANNELS)

    def forward(self, x):
        x = self.preprocess1(x)
        half = self.upsample_2(self._ops_1(self.down_2(x)))
        quarter = self.upsample_4(self._ops_2(self.down_4(x)))
        return x + self.SKFF(self._ops(x), half, quarter)


class _SelectiveFusion(nn.Module):
    """Weighted sum of three maps [B,C,H,W]; weights of each channel sum to 1 and come from global means (SKFF)."""

    def __init__(self, channels):
        super().__init__()
        self.conv_du = nn.Sequential(conv(channels, channels // 8, 1), nn.PReLU())
        self.fcs = nn.ModuleList(conv(channels // 8, channels, 1) for _ in range(3))

    def forward(self, *maps):
        hidden = self.conv_du(sum(maps).mean((2, 3), keepdim=True))
        weights = torch.stack([fc(hidden) for fc in self.fcs]).softmax(0)
        return sum(weight * each for weight, each in zip(weights, maps))


class _ChannelAttention(nn.Module):
    """Scale each channel by the means of itself and its neighbours (ECA), then 3x3 convolution and PReLU."""

    def __init__(self):
        super().__init__()
        self.se = Named(conv=nn.Conv1d(1, 1, 3, padding=1, bias=False))
        self.conv1, self.relu = conv(_CHANNELS, _CHANNELS, 3), nn.PReLU()

    def forward(self, x):
        scale = torch.sigmoid(self.se(x.mean((2, 3))[:, None]))
        return self.relu(self.conv1(x * scale[:, 0, :, None, None]))


def _dilated(channels):
    """x + BatchNorm(1x1(dilated 3x3(ReLU(x)))), where only the 1x1 convolution mixes channels."""
    return Residual(op=nn.Sequential(
        nn.ReLU(), Named(conv=conv(channels, channels, 3, groups=channels, dilation=2)),
        conv(channels, channels, 1), nn.BatchNorm2d(channels),
    ))


class _Branches(Named):
    def forward(self, x):
        return self.top(x) + self.bot(x)


class _Down(_Branches):
    """[B,C,H,W] -> [B,2C,H/2,W/2], with a blur before the stride."""

    def __init__(self, channels):
        super().__init__(
            top=nn.Sequential(
                conv(channels, channels, 1), nn.PReLU(), conv(channels, channels, 3), nn.PReLU(),
                _BlurPool(channels), conv(channels, 2 * channels, 1),
            ),
            bot=nn.Sequential(_BlurPool(channels), conv(channels, 2 * channels, 1)),
        )


class _Up(_Branches):
    """[B,C,H,W] -> [B,C/2,2H,2W]."""

    def __init__(self, channels):
        super().__init__(
            top=nn.Sequential(
                conv(channels, channels, 1), nn.PReLU(),
                nn.ConvTranspose2d(channels, channels, 3, 2, padding=1, output_padding=1, bias=False), nn.PReLU(),
                conv(channels, channels // 2, 1),
            ),
            bot=nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), conv(channels, channels // 2, 1)),
        )


class _BlurPool(nn.Module):
    """Binomial filter [1 2 1] in both directions on each channel, reflect padding, stride 2.

    The filter is the buffer `filt` of the release, a constant that files may omit.
    """

    def __init__(self, channels):
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("filt", torch.outer(row, row).expand(channels, 1, 3, 3).clone(), persistent=False)

    def forward(self, x):
        return conv2d(reflected(x), self.filt, stride=2, groups=x.shape[1])


def _operations(*operations):
    return nn.Sequential(*(Named(_op=operation) for operation in operations))


def _cell(*operations):
    return Named(preprocess1=preprocess(_CHANNELS), _ops=_operations(*operations))


def _reflected(in_channels, out_channels, kernel):
    """Convolution with bias and reflect padding."""
    return Named(conv2d=nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, padding_mode="reflect"))


def _stem(*norm):
    return nn.Sequential(_reflected(2, 96, 3), nn.PReLU(), _reflected(96, _CHANNELS, 3), *norm, nn.PReLU())


def _stem_out():
    return nn.Sequential(_reflected(_CHANNELS, _CHANNELS, 3), nn.PReLU(), *_last())


def _last():
    return _reflected(_CHANNELS, 24, 3), _reflected(24, 1, 1)
