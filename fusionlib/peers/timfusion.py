"""TIMFusion, in two stages, and its light variant of one."""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from fusionlib.peers.layers import named, reflected
from fusionlib.peers.peer import Peer
from fusionlib.peers.searched_ops import DenseBlock, ResidualModule, SpatialAttn, conv, preprocess

_CHANNELS = 48
_SCALES = (_CHANNELS, 2 * _CHANNELS, 4 * _CHANNELS)  # channels at full, half and quarter scale


class TIMFusion(Peer):
    """Liu et al., A Task-guided, Implicitly-searched and Meta-initialized Deep Model for Image Fusion, 2023.

    arXiv 2305.15862; the cells are those that the release calls "fusion_M". 994,917 + 237,308 parameters; code and
    weights under the MIT licence. Gray images in 0..1, padded to multiples of 4. The first stage fuses, the second sees
    its result beside either image. Means over the whole image leave no room for tiles; the output is not bounded.

    Quirks of the release that are kept, since its weights were trained with them: two of the three maps that the last
    mask is made from are the same, and a third is 0.333. One is not: its test script leaves the second stage in
    training mode, where batch norms take the statistics of the image itself and results differ a lot. Here it is in
    evaluation mode; `peer.model_2.train()` does as the script does.
    """

    multiple = 4
    bytes_per_pixel = 2800

    def __init__(self):
        super().__init__()
        self.model_1 = named(
            stem=_stem(),
            cells=nn.Sequential(_FusionCell(), _cell(DenseBlock(_CHANNELS, 3, 0.333, _CHANNELS), _DilConv(_CHANNELS))),
            stem_out=_stem_out(),
        )
        self.model_2 = _SecondStage()

    def forward(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Fuse two [B,1,H,W] in 0..1, sides multiples of 4, to one of the same shape, without bounds."""
        return self.model_2(visible, ir, self.model_1(torch.cat([ir, visible], 1)))[-1]


class TIMFusionLight(Peer):
    """The light variant of TIMFusion: a first stage alone, with two cells at full scale. 127,358 parameters.

    Takes and gives what TIMFusion does. The network itself has no need of multiples of 4; the release pads to them.
    """

    multiple = 4
    bytes_per_pixel = 2600

    def __init__(self):
        super().__init__()
        self.stem, self.stem_out = _stem(), _stem_out()
        self.cells = nn.Sequential(*(_cell(ResidualModule(_CHANNELS, 3), _ChannelAttention()) for _ in range(2)))

    def forward(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Fuse two [B,1,H,W] in 0..1 to one of the same shape, without bounds."""
        return self.stem_out(self.cells(self.stem(torch.cat([ir, visible], 1))))


class _SecondStage(nn.Module):
    """Refine a fused image beside each of the two it came from; a mask from the visible side weighs them."""

    def __init__(self):
        super().__init__()
        self.stem2, self.stem3 = _stem(nn.BatchNorm2d(_CHANNELS)), _stem(nn.BatchNorm2d(_CHANNELS))
        self.cells2 = nn.Sequential(*(_cell(named(se=SpatialAttn(3)), _DilConv(_CHANNELS)) for _ in range(2)))
        self.cells3 = nn.Sequential(*(_cell(_ChannelAttention(), named(se=SpatialAttn(3))) for _ in range(2)))
        self.spa = named(spatial=named(conv=conv(3, 1, 1)), sigmoid=nn.Sigmoid())
        self.stem_out2, self.stem_out3 = _stem_out().append(nn.Tanh()), _stem_out().append(nn.Tanh())
        self.stem_out4 = nn.Sequential(_reflected(_CHANNELS, _CHANNELS, 3), *_last())

    def forward(self, visible, ir, fused):
        """All [B,1,H,W]; the auxiliary outputs of the visible and of the infrared side, and the output."""
        u = self.cells3(self.stem2(torch.cat([visible, fused], 1)))
        v = self.cells2(self.stem3(torch.cat([ir, fused], 1)))
        highest = u.amax(1, keepdim=True)
        mask = self.spa(torch.cat([highest, highest, u.mean(1, keepdim=True)], 1))
        return self.stem_out2(u), self.stem_out3(v), self.stem_out4(mask * u + (1 - mask) * v)


class _FusionCell(nn.Module):
    """The same two operations at full, half and quarter scale; what attention makes of the three is added."""

    def __init__(self):
        super().__init__()
        self.preprocess1 = preprocess(_CHANNELS)
        self._ops, self._ops_1, self._ops_2 = (
            _operations(ResidualModule(channels, 3), _DilConv(channels)) for channels in _SCALES
        )
        self.down_2, self.down_4 = (named(body=nn.Sequential(*map(_Down, _SCALES[:n]))) for n in (1, 2))
        self.upsample_2, self.upsample_4 = (named(body=nn.Sequential(*map(_Up, _SCALES[n:0:-1]))) for n in (1, 2))
        self.SKFF = _SelectiveFusion(_CHANNELS)

    def forward(self, x):
        x = self.preprocess1(x)
        half = self.upsample_2(self._ops_1(self.down_2(x)))
        quarter = self.upsample_4(self._ops_2(self.down_4(x)))
        return x + self.SKFF(self._ops(x), half, quarter)


class _SelectiveFusion(nn.Module):
    """Add three maps [B,C,H,W], each channel with weights of sum 1 that come from means over the image (SKFF)."""

    def __init__(self, channels):
        super().__init__()
        self.conv_du = nn.Sequential(conv(channels, channels // 8, 1), nn.PReLU())
        self.fcs = nn.ModuleList(conv(channels // 8, channels, 1) for _ in range(3))

    def forward(self, *maps):
        hidden = self.conv_du(sum(maps).mean((2, 3), keepdim=True))
        weights = torch.stack([fc(hidden) for fc in self.fcs]).softmax(0)
        return sum(weight * each for weight, each in zip(weights, maps))


class _ChannelAttention(nn.Module):
    """Scale each channel by its own mean and that of its neighbours (ECA), then 3x3 convolution and PReLU."""

    def __init__(self):
        super().__init__()
        self.se = named(conv=nn.Conv1d(1, 1, 3, padding=1, bias=False))
        self.conv1 = conv(_CHANNELS, _CHANNELS, 3)
        self.relu = nn.PReLU()

    def forward(self, x):
        scale = torch.sigmoid(self.se(x.mean((2, 3))[:, None]))
        return self.relu(self.conv1(x * scale[:, 0, :, None, None]))


class _DilConv(nn.Module):
    """x + BatchNorm(1x1(3x3 with holes(ReLU(x)))), where only the 1x1 convolution mixes channels."""

    def __init__(self, channels):
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(), named(conv=conv(channels, channels, 3, groups=channels, dilation=2)),
            conv(channels, channels, 1), nn.BatchNorm2d(channels),
        )

    def forward(self, x):
        return x + self.op(x)


class _Down(nn.Module):
    """[B,C,H,W] -> [B,2C,H/2,W/2], smoothed before the stride."""

    def __init__(self, channels):
        super().__init__()
        self.top = nn.Sequential(
            conv(channels, channels, 1), nn.PReLU(), conv(channels, channels, 3), nn.PReLU(),
            _BlurPool(channels), conv(channels, 2 * channels, 1),
        )
        self.bot = nn.Sequential(_BlurPool(channels), conv(channels, 2 * channels, 1))

    def forward(self, x):
        return self.top(x) + self.bot(x)


class _Up(nn.Module):
    """[B,C,H,W] -> [B,C/2,2H,2W]."""

    def __init__(self, channels):
        super().__init__()
        self.top = nn.Sequential(
            conv(channels, channels, 1), nn.PReLU(),
            nn.ConvTranspose2d(channels, channels, 3, 2, padding=1, output_padding=1, bias=False), nn.PReLU(),
            conv(channels, channels // 2, 1),
        )
        self.bot = nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), conv(channels, channels // 2, 1))

    def forward(self, x):
        return self.top(x) + self.bot(x)


class _BlurPool(nn.Module):
    """Each channel smoothed by the binomial filter [1 2 1] both ways, mirrored at the edge; every second pixel of it.

    The release stores the filter as a buffer `filt`, a constant that its files need not bring.
    """

    def __init__(self, channels):
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("filt", torch.outer(row, row).expand(channels, 1, 3, 3).clone(), persistent=False)

    def forward(self, x):
        return conv2d(reflected(x), self.filt, stride=2, groups=x.shape[1])


def _operations(*operations):
    return nn.Sequential(*(named(_op=operation) for operation in operations))


def _cell(*operations):
    """A cell without branches."""
    return named(preprocess1=preprocess(_CHANNELS), _ops=_operations(*operations))


def _reflected(in_channels, out_channels, kernel):
    """Convolution with bias, mirrored at the edge."""
    return named(conv2d=nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, padding_mode="reflect"))


def _stem(*norm):
    return nn.Sequential(_reflected(2, 96, 3), nn.PReLU(), _reflected(96, _CHANNELS, 3), *norm, nn.PReLU())


def _stem_out():
    return nn.Sequential(_reflected(_CHANNELS, _CHANNELS, 3), nn.PReLU(), *_last())


def _last():
    return _reflected(_CHANNELS, 24, 3), _reflected(24, 1, 1)
