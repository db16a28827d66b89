"""Stage 2: text-driven feature harmonization, Text-DFH (paper section 3.3, figure 4) and its ablations (4.5)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from fusionlib.models.fusion_network import FusionNetwork, convolution, crop, feature_layer
from fusionlib.utils.errors import FusionError


class WideLinear(nn.Linear):
    """A linear layer for many tokens of few channels with more output than input channels: [...,in] -> [...,out].

    For the gradient of its weight, `nn.Linear` computes G^T X, with G the gradient of its output. If `out` is larger
    than `in`, MKL takes ten times as long for that as for X^T G, which autograd uses for a contiguous transpose.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """[...,in] -> [...,out]."""
        out = torch.addmm(self.bias, tokens.flatten(0, -2), self.weight.t().contiguous())
        return out.unflatten(0, tokens.shape[:-1])


VARIANTS = ("full", "no_dfh", "ca1", "ca2")


class AttentionOutput(nn.Module):
    """The second half of a Swin-type block: output projection, residual, LayerNorm + MLP (x4, GELU), residual."""

    def __init__(self, channels: int, inner: int):
        super().__init__()
        self.project = nn.Linear(inner, channels)
        self.mlp = nn.Sequential(nn.LayerNorm(channels), WideLinear(channels, 4 * channels), nn.GELU(),
                                 nn.Linear(4 * channels, channels))

    def forward(self, attended: Tensor, residual: Tensor) -> Tensor:
        """[B,heads,N,d] and [B,N,C] -> [B,N,C]."""
        out = residual + self.project(attended.transpose(1, 2).flatten(2))
        return out + self.mlp(out)


class CrossAttention(nn.Module):
    """Cross-attention from tokens to a context: a Swin-type block with LayerNorm before the linear Q, K and V.

    One head of `head_dim` dimensions per `head_dim` channels, at least one: image features have few channels, and
    heads of 4 or 8 dimensions are slow and of little capacity.
    """

    def __init__(self, channels: int, head_dim: int = 16):
        super().__init__()
        self.heads = max(1, channels // head_dim)
        self.inner = self.heads * head_dim
        self.norm_tokens, self.norm_context = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.to_query = WideLinear(channels, self.inner)
        self.to_key = WideLinear(channels, self.inner)
        self.to_value = WideLinear(channels, self.inner)
        self.output = AttentionOutput(channels, self.inner)

    def split(self, tokens: Tensor) -> Tensor:
        """Split into heads: [B,N,heads*d] -> [B,heads,N,d]."""
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def query(self, tokens: Tensor) -> Tensor:
        """Q: [B,N,C] -> [B,heads,N,d]."""
        return self.split(self.to_query(self.norm_tokens(tokens)))

    def key(self, context: Tensor) -> Tensor:
        """K: [B,M,C] -> [B,heads,M,d]."""
        return self.split(self.to_key(self.norm_context(context)))

    def value(self, context: Tensor) -> Tensor:
        """V: [B,M,C] -> [B,heads,M,d]."""
        return self.split(self.to_value(self.norm_context(context)))

    def forward(self, tokens: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens [B,N,C], context [B,M,C], mask [B,M], False for padding -> [B,N,C]."""
        value = self.value(context)  # first: the order in which gradients are summed decides their last bits
        return self.output(attend(self.query(tokens), self.key(context), value, mask), tokens)


class BackToGrid(nn.Module):
    """Bring the words' attention result back to the pixels by a third attention, the reverse of the second branch.

    The pixel's key serves as query, the word's query as key, and the word's attention result as value. No matrix of
    size HW x HW arises.
    """

    def __init__(self, branch: CrossAttention, channels: int):
        super().__init__()
        self.to_value = WideLinear(channels, branch.inner)
        self.output = AttentionOutput(channels, branch.inner)

    def forward(self, branch: CrossAttention, pixels: Tensor, words: Tensor, attended: Tensor, mask: Tensor) -> Tensor:
        """Pixels [B,HW,C], words and their attention result [B,L,C], mask [B,L] -> [B,HW,C]."""
        value = branch.split(self.to_value(attended))
        return self.output(attend(branch.key(pixels), branch.query(words), value, mask), pixels)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(QK^T / sqrt(d)) V over [B,heads,N,d], [B,heads,M,d]; mask [B,M] or None."""
    return scaled_dot_product_attention(query, key, value, None if mask is None else mask[:, None, None, :])


def as_tokens(features: Tensor) -> Tensor:
    """Pixels as tokens: [B,C,H,W] -> [B,HW,C]."""
    return features.flatten(2).transpose(1, 2)


class TextDFH(nn.Module):
    """Harmonise the features of one encoder with the features of a text.

    Branch 1 (text-guided, CA1): pixels are the query, words are key and value.
    Branch 2 (image-guided, CA2): words are the query, pixels are key and value; the result goes back to the grid.
    Both results are concatenated along channels, pass three feature layers, and are added to the input features. The
    last layer is a plain convolution initialised to zero, so an untrained Text-DFH changes nothing.
    How the second branch returns to the grid, and the residual, are our reading: the paper does not say.

    Args:
        channels: C of the image features.
        text_dim: D of the text features.
        variant: "full"; "ca1" or "ca2", one branch only; "no_dfh", the mean text feature concatenated to the image
            features and convolved (paper section 4.5).
    """

    def __init__(self, channels: int, text_dim: int, variant: str = "full"):
        super().__init__()
        if variant not in VARIANTS:
            raise FusionError(f"variant must be one of {', '.join(VARIANTS)}, but is {variant!r}.")
        self.config = {"channels": channels, "text_dim": text_dim, "variant": variant}
        self.variant = variant
        self.embed = nn.Linear(text_dim, channels)
        if variant in ("full", "ca1"):
            self.text_guided = CrossAttention(channels)
        if variant in ("full", "ca2"):
            self.image_guided = CrossAttention(channels)
            self.back_to_grid = BackToGrid(self.image_guided, channels)
        width = channels if variant in ("ca1", "ca2") else 2 * channels
        self.layers = nn.Sequential(feature_layer(width, channels), feature_layer(channels, channels),
                                    convolution(channels, channels))
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

    def forward(self, features: Tensor, text: Tensor, mask: Tensor, context: Tensor | None = None) -> Tensor:
        """Harmonised features.

        Args:
            features: [B,C,H,W].
            text: [B,L,D], the text's token features.
            mask: [B,L] bool, False for padding; each row needs one True.
            context: if `features` are a tile of an image, the result [B,L,C] of the image-guided branch on the whole
                image.

        Returns:
            [B,C,H,W].
        """
        height, width = features.shape[2:]
        words = self.embed(text)
        if self.variant == "no_dfh":
            mean = (words * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            branches = [features, mean[:, :, None, None].expand(-1, -1, height, width)]
        else:
            pixels = as_tokens(features)
            branches = []
            if self.variant in ("full", "ca1"):
                branches.append(self.text_guided(pixels, words, mask))
            if self.variant in ("full", "ca2"):
                context = self.image_guided(words, pixels) if context is None else context  # [B,L,C]
                branches.append(self.back_to_grid(self.image_guided, pixels, words, context, mask))
            branches = [b.transpose(1, 2).unflatten(2, (height, width)) for b in branches]
        return features + self.layers(torch.cat(branches, dim=1))

    @torch.no_grad()
    def word_attention(self, features: Tensor, text: Tensor) -> Tensor:
        """Attention map of each word: the second branch's softmax over pixels, mean over heads, [B,L,H,W]; sums to 1.

        For figures, because it holds L x HW weights. Variants without the second branch raise FusionError.
        """
        if self.variant not in ("full", "ca2"):
            raise FusionError(f"variant {self.variant!r} has no image-guided branch, so no attention of words to show.")
        branch, pixels = self.image_guided, as_tokens(features)
        query, key = branch.query(self.embed(text)), branch.key(pixels)
        weights = (query @ key.transpose(2, 3) / query.shape[-1] ** 0.5).softmax(dim=-1).mean(dim=1)
        return weights.unflatten(2, features.shape[2:])


class TextGuidedFusion(nn.Module):
    """The frozen fusion network with one Text-DFH per encoder (paper figure 2).

    Only `harmonise` is trained and saved. The fusion network always stays in evaluation mode.
    """

    def __init__(self, network: FusionNetwork, text_dim: int, variant: str = "full"):
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.harmonise = nn.ModuleDict({name: TextDFH(network.feature_channels, text_dim, variant)
                                        for name in ("ir", "vi")})

    def train(self, mode: bool = True):
        """Training mode for Text-DFH alone: the running statistics of the frozen network must not move."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, ir: Tensor, y: Tensor, text: Tensor, mask: Tensor,
                context: Sequence[Tensor | None] = (None, None)) -> Tensor:
        """Refined luma: two [B,1,H,W] in 0..1, text [B,L,D], mask [B,L] -> [B,1,H,W] in 0..1.

        For a tile, `context` is that of the whole infrared and visible image (`TextDFH.forward`).
        """
        f_ir, f_vi = self.network.encode(ir, y)
        refined = self.network.decode(self.harmonise["ir"](f_ir, text, mask, context[0]),
                                      self.harmonise["vi"](f_vi, text, mask, context[1]))
        return crop(refined, *ir.shape[2:])
