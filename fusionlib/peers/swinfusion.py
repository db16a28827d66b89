"""SwinFusion: shifted-window attention within each image and then across the two."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, scaled_dot_product_attention
from torchvision.ops import StochasticDepth

from fusionlib.inference.tiling import mirrored
from fusionlib.peers.layers import Named
from fusionlib.peers.peer import Peer

WIDTH, HEADS, WINDOW = 60, 6, 8
AT_ONCE = 128  # windows of a strip
DROP_PATH = 0.1  # in training only; reached linearly within each of the three stages, which is our reading

_convolution = partial(nn.Conv2d, kernel_size=3, padding=1)


class SwinFusion(Peer):
    """SwinFusion: Swin blocks extract features, cross-attention blocks exchange them, Swin blocks reconstruct.

    Ma, Tang, Fan, Huang, Mei, Ma: SwinFusion: Cross-domain Long-range Learning for General Image Fusion via Swin
    Transformer, IEEE/CAA Journal of Automatica Sinica 9(7), 1200-1217, 2022.

    973,681 parameters. Takes infrared and luma [B,1,H,W] in 0..1 of any size, gives [B,1,H,W] without a final
    activation. The release has no licence; the user provides the weights. This is the network that its test script for
    infrared and visible images loads: 4 blocks extract, 2 x (2 + 2) fuse, 4 reconstruct.

    As in the release: both images pass the first two convolutions of infrared, and those of the visible image are in
    the file but unused; one LayerNorm serves wherever features become tokens; `forward` pads the bottom and right by
    reflection to a multiple of 8, and before that `fuse`, like the test script, appends the mirror image up to the next
    multiple of 8, or 8 pixels if a side already is one (that the edge is repeated is our reading).

    A pixel's context: 4 pixels from the last convolutions and the shifted window before them, 4 from each of the other
    15 levels of blocks, and 2 from the first convolutions: 66. The halo is the next multiple of the window.
    """

    multiple = WINDOW
    halo = 72
    bytes_per_pixel = 3400

    def __init__(self):
        super().__init__()
        self.conv_first1_A, self.conv_first2_A = _convolution(1, WIDTH // 2), _convolution(WIDTH // 2, WIDTH)
        self.conv_first1_B, self.conv_first2_B = _convolution(1, WIDTH // 2), _convolution(WIDTH // 2, WIDTH // 2)
        self.patch_embed = Named(norm=nn.LayerNorm(WIDTH))
        self.layers_Ex_A, self.norm_Ex_A = _four_blocks(), nn.LayerNorm(WIDTH)
        self.layers_Ex_B, self.norm_Ex_B = _four_blocks(), nn.LayerNorm(WIDTH)
        self.layers_Fusion = nn.Sequential(_FusionLayer(0, DROP_PATH / 3), _FusionLayer(2 * DROP_PATH / 3, DROP_PATH))
        self.norm_Fusion_A, self.norm_Fusion_B = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.conv_after_body_Fusion = _convolution(2 * WIDTH, WIDTH)
        self.layers_Re, self.norm_Re = _four_blocks(), nn.LayerNorm(WIDTH)
        self.conv_last1 = _convolution(WIDTH, WIDTH // 2)
        self.conv_last2 = _convolution(WIDTH // 2, WIDTH // 4)
        self.conv_last3 = _convolution(WIDTH // 4, 1)

    def forward(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Fuse [B,1,H,W] and [B,1,H,W] in 0..1 to [B,1,H,W]."""
        height, width = ir.shape[-2:]
        ir, visible = (mirrored(image, (0, -width % WINDOW, 0, -height % WINDOW)) for image in (ir, visible))
        a = self.norm_Ex_A(self.layers_Ex_A(self._shallow(ir)))
        b = self.norm_Ex_B(self.layers_Ex_B(self._shallow(visible)))
        a, b = self.patch_embed(a), self.patch_embed(b)
        a, b = self.layers_Fusion((a, b))
        both = torch.cat((self.norm_Fusion_A(a), self.norm_Fusion_B(b)), -1)
        fused = self._tokens(leaky_relu(self.conv_after_body_Fusion(both.movedim(-1, 1)), 0.2))
        fused = self.norm_Re(self.layers_Re(fused)).movedim(-1, 1)
        for convolution in (self.conv_last1, self.conv_last2):
            fused = leaky_relu(convolution(fused), 0.2)
        return self.conv_last3(fused)[..., :height, :width]

    def _shallow(self, image):
        return self._tokens(leaky_relu(self.conv_first2_A(leaky_relu(self.conv_first1_A(image), 0.2)), 0.2))

    def _tokens(self, features):
        """Normalise [B,C,H,W] to tokens [B,H,W,C]."""
        return self.patch_embed(features.movedim(1, -1))

    def _fitted(self, ir, visible, text):
        height, width = ir.shape[-2:]
        rows, columns = (_with_mirror_image(side).to(ir.device) for side in (height, width))
        padded = (image[..., rows[:, None], columns] for image in (ir, visible))
        return self._whole_or_tiled(*padded, text)[..., :height, :width]


def _with_mirror_image(side):
    """Indices of `side` rows, then backwards from the last up to the next multiple of the window."""
    index = torch.arange(side // WINDOW * WINDOW + WINDOW) % (2 * side)
    return torch.minimum(index, 2 * side - 1 - index)


def _four_blocks():
    return nn.Sequential(Named(residual_group=_blocks(_SwinBlock, [DROP_PATH * i / 3 for i in range(4)])))


def _blocks(kind, rates):
    return Named(blocks=nn.Sequential(*(kind(i % 2 * WINDOW // 2, rate) for i, rate in enumerate(rates))))


def _mlp():
    return Named(fc1=nn.Linear(WIDTH, 2 * WIDTH), act=nn.GELU(), fc2=nn.Linear(2 * WIDTH, WIDTH))


class _FusionLayer(nn.Module):
    """Blocks within each image, then blocks across the two: a pair of [B,H,W,C] -> a pair."""

    def __init__(self, *rates):
        super().__init__()
        self.residual_group = _blocks(_CrossBlock, rates)
        self.residual_group_A, self.residual_group_B = _blocks(_SwinBlock, rates), _blocks(_SwinBlock, rates)

    def forward(self, pair):
        a, b = pair
        return self.residual_group((self.residual_group_A(a), self.residual_group_B(b)))


class _SwinBlock(nn.Module):
    """A block of the Swin Transformer (Liu et al., ICCV 2021) on [B,H,W,C]."""

    def __init__(self, shift, drop):
        super().__init__()
        self.shift = shift
        self.norm1, self.attn = nn.LayerNorm(WIDTH), _WindowAttention(cross=False)
        self.norm2, self.mlp = nn.LayerNorm(WIDTH), _mlp()
        self.drop = StochasticDepth(drop, "row")

    def forward(self, x):
        biases = self.attn.biases(x, self.shift)
        return _by_strips(lambda strip, last: [self._strip(strip, biases[last])], self.shift, x)[0]

    def _strip(self, x, bias):
        normed = self.norm1(x)
        x = x + self.drop(self.attn(normed, normed, bias))
        return x + self.drop(self.mlp(self.norm2(x)))


class _CrossBlock(nn.Module):
    """A Swin block on a pair of [B,H,W,C] in which the queries of each attend to the other."""

    def __init__(self, shift, drop):
        super().__init__()
        self.shift = shift
        self.norm1_A, self.norm1_B = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn_A, self.attn_B = _WindowAttention(cross=True), _WindowAttention(cross=True)
        self.norm2_A, self.norm2_B = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mlp_A, self.mlp_B = _mlp(), _mlp()
        self.drop = StochasticDepth(drop, "row")

    def forward(self, pair):
        a, b = (attn.biases(pair[0], self.shift) for attn in (self.attn_A, self.attn_B))
        return _by_strips(lambda *strips, last: self._strips(*strips, a[last], b[last]), self.shift, *pair)

    def _strips(self, a, b, bias_a, bias_b):
        normed_a, normed_b = self.norm1_A(a), self.norm1_B(b)
        a = a + self.drop(self.attn_A(normed_a, normed_b, bias_a))
        b = b + self.drop(self.attn_B(normed_b, normed_a, bias_b))
        return a + self.drop(self.mlp_A(self.norm2_A(a))), b + self.drop(self.mlp_B(self.norm2_B(b)))


def _by_strips(function, shift, *images):
    """Apply a function to images [B,H,W,C] by strips of window rows: less memory and, on a CPU, less time.

    Windows are shifted by `shift` down and to the right, and wrap around from the last row and column to the first.
    """
    height, step = images[0].shape[1], WINDOW * _rows_of_windows(images[0])
    results = [torch.empty_like(image) for image in images]
    for top in range(0, height, step):
        bottom = min(top + step, height)
        rows = torch.arange(top + shift, bottom + shift, device=images[0].device) % height
        strips = (image[:, rows].roll(-shift, 2) for image in images)
        for result, strip in zip(results, function(*strips, last=bottom == height)):
            result[:, rows] = strip.roll(shift, 2)
    return results


def _rows_of_windows(image):
    """Window rows of [B,H,W,C] in a strip: all of them with gradients, where nothing could be freed."""
    batch, height, width, _ = image.shape
    return height // WINDOW if torch.is_grad_enabled() else max(1, AT_ONCE * WINDOW // (batch * width))


class _WindowAttention(nn.Module):
    """Attention within windows, with a bias for each relative position."""

    def __init__(self, cross):
        super().__init__()
        self.cross = cross
        table = nn.init.trunc_normal_(torch.empty((2 * WINDOW - 1) ** 2, HEADS), std=0.02)
        self.relative_position_bias_table = nn.Parameter(table)
        y, x = torch.meshgrid(torch.arange(WINDOW), torch.arange(WINDOW), indexing="ij")
        dy, dx = (axis.flatten()[:, None] - axis.flatten() + WINDOW - 1 for axis in (y, x))
        index = dy * (2 * WINDOW - 1) + dx  # row of the table for each pair of pixels of a window: [64,64]
        self.register_buffer("relative_position_index", index, persistent=False)
        if cross:
            self.q, self.kv = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH)
        else:
            self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x, context, bias):
        """A strip and its context [B,h,W,C], one of `biases` -> [B,h,W,C]."""
        qkv = torch.cat((self.q(x), self.kv(context)), -1) if self.cross else self.qkv(x)
        batch, height, width, depth = *x.shape[:3], WIDTH // HEADS
        windows = height // WINDOW, WINDOW, width // WINDOW, WINDOW
        qkv = qkv.view(batch, *windows, 3, HEADS, depth).permute(5, 0, 1, 3, 6, 2, 4, 7)
        qkv = qkv.reshape(3, batch, -1, WINDOW**2, depth)
        out = scaled_dot_product_attention(*qkv, bias[:, -qkv.shape[2] :])
        out = out.view(batch, *windows[::2], HEADS, WINDOW, WINDOW, depth).permute(0, 1, 4, 2, 5, 3, 6)
        return self.proj(out.reshape(x.shape))

    def biases(self, image, shift):
        """Additive logits [1,windows*heads,64,64] for a strip of [B,H,W,C]: of any but the last, and of the last.

        Shifted windows of the last row and column hold pixels of opposite edges, which are masked from each other.
        """
        rows, columns = min(_rows_of_windows(image), image.shape[1] // WINDOW), image.shape[2] // WINDOW
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        bias = bias.repeat(rows, columns, 1, 1, 1)
        if not shift:
            return 2 * (bias.flatten(0, 2)[None],)
        near = torch.arange(WINDOW, device=bias.device) < WINDOW - shift
        apart = near[:, None] != near
        bias[:, -1].masked_fill_(apart.repeat(WINDOW, WINDOW), -torch.inf)
        last = bias.clone()
        last[-1].masked_fill_(apart.repeat_interleave(WINDOW, 0).repeat_interleave(WINDOW, 1), -torch.inf)
        return bias.flatten(0, 2)[None], last.flatten(0, 2)[None]
