"""Cross-attention between the pixels of an image and the words of a text: the blocks of Text-DFH (paper 3.3)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class WideLinear(nn.Linear):
    """A linear layer for many tokens of few channels with more output than input channels: [...,in] -> [...,out].

    For the gradient of its weight, `nn.Linear` computes G^T X, with G the gradient of its output. If `out` is larger
    than `in`, MKL takes ten times as long for that as for X^T G, which autograd uses for a contiguous transpose.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """[...,in] -> [...,out]."""
        out = torch.addmm(self.bias, tokens.flatten(0, -2), self.weight.t().contiguous())
        return out.unflatten(0, tokens.shape[:-1])


class AttentionOutput(nn.Module):
    """The second half of a Swin-type block: output projection, residual, LayerNorm + MLP (x4, GELU), residual.

    Without `mlp` it ends after the first residual.
    """

    def __init__(self, channels: int, inner: int, mlp: bool = True):
        super().__init__()
        self.project = nn.Linear(inner, channels)
        self.mlp = None
        if mlp:
            self.mlp = nn.Sequential(nn.LayerNorm(channels), WideLinear(channels, 4 * channels), nn.GELU(),
                                     nn.Linear(4 * channels, channels))

    def forward(self, attended: Tensor, residual: Tensor) -> Tensor:
        """[B,heads,N,d] and [B,N,C] -> [B,N,C]."""
        out = residual + self.project(attended.transpose(1, 2).flatten(2))
        return out if self.mlp is None else out + self.mlp(out)


class LevelNorm(nn.LayerNorm):
    """LayerNorm with what it takes away, mean and standard deviation over the channels: [...,C] -> [...,C+2]."""

    added = 2

    def forward(self, tokens: Tensor) -> Tensor:
        """[...,C] -> [...,C+2]."""
        norm = self.normalized_shape, self.weight, self.bias, self.eps
        normalised, mean, inverse = torch.native_layer_norm(tokens, *norm)  # mean and 1 / deviation cost nothing here
        return torch.cat([normalised, mean.to(normalised), inverse.reciprocal().to(normalised)], -1)


class CrossAttention(nn.Module):
    """Cross-attention from tokens to a context: a Swin-type block with LayerNorm before the linear Q, K and V.

    Args:
        channels: C of the tokens.
        context: channels of the context; by default C.
        width: dimensions of Q, K and V; by default C, but at least those of a head.
        head_dim: dimensions of a head: image features have few channels, and heads of 4 or 8 dimensions are slow and of
            little capacity.
        norm_tokens, norm_context: `nn.LayerNorm` or `LevelNorm`.
        mlp: as for `AttentionOutput`.
    """

    def __init__(self, channels: int, context: int | None = None, width: int | None = None, head_dim: int = 16,
                 norm_tokens: type[nn.LayerNorm] = nn.LayerNorm, norm_context: type[nn.LayerNorm] = nn.LayerNorm,
                 mlp: bool = True):  # fmt: skip
        super().__init__()
        context = context or channels
        self.heads = max(1, (width or channels) // head_dim)
        self.inner = self.heads * head_dim
        self.norm_tokens, self.norm_context = norm_tokens(channels), norm_context(context)
        of_tokens, of_context = channels + getattr(norm_tokens, "added", 0), context + getattr(norm_context, "added", 0)
        self.to_query = WideLinear(of_tokens, self.inner)
        self.to_key = WideLinear(of_context, self.inner)
        self.to_value = WideLinear(of_context, self.inner)
        self.output = AttentionOutput(channels, self.inner, mlp)

    def split(self, tokens: Tensor) -> Tensor:
        """Split into heads: [B,N,heads*d] -> [B,heads,N,d]."""
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def query(self, tokens: Tensor) -> Tensor:
        """Q of tokens: [B,N,C] -> [B,heads,N,d]."""
        return self.split(self.to_query(self.norm_tokens(tokens)))

    def key(self, context: Tensor) -> Tensor:
        """K of a context: [B,M,C] -> [B,heads,M,d]."""
        return self.split(self.to_key(self.norm_context(context)))

    def value(self, context: Tensor) -> Tensor:
        """V of a context: [B,M,C] -> [B,heads,M,d]."""
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

    def __init__(self, branch: CrossAttention, channels: int, words: int | None = None, mlp: bool = True):
        super().__init__()
        self.to_value = WideLinear(words or channels, branch.inner)
        self.output = AttentionOutput(channels, branch.inner, mlp)

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
