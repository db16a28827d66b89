"""Cross-attention between the pixels of an image and the words of a text: the blocks of Text-DFH (paper 3.3).

Pixels are many and words are few. So the linear layers of the pixels are multiplied into what they meet of the words:
with x a pixel and k the key of a word, (W x) k = x (W^T k), and no Q, K or V of pixels is ever computed. They are taken
in pieces, so that the scores of all of them are never held at once.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

PIECE = 4096  # pixels at once: on a CPU, what is computed of them stays in the cache


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

    def of_heads(self, values: Tensor) -> Tensor:
        """The projection head by head: [B,heads,M,d] -> [B,heads,M,C], whose sum over heads it is.

        Each has a share of the bias, which any mean of values keeps.
        """
        heads = values.shape[1]
        return values @ self.project.weight.unflatten(1, (heads, -1)).permute(1, 2, 0) + self.project.bias / heads

    def forward(self, out: Tensor) -> Tensor:
        """What follows the first residual: [B,N,C] -> [B,N,C]."""
        return out if self.mlp is None else out + self.mlp(out)


class LevelNorm(nn.LayerNorm):
    """LayerNorm with what it takes away, mean and standard deviation over the channels: [...,C] -> [...,C+2]."""

    added = 2

    def forward(self, tokens: Tensor) -> Tensor:
        """[...,C] -> [...,C+2]."""
        return normalised(self, tokens, self.weight, self.bias)


def normalised(norm: nn.LayerNorm, tokens: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """LayerNorm or LevelNorm with the given weights, by default without any: [...,C] -> [...,C] or [...,C+2]."""
    out, mean, inverse = torch.native_layer_norm(tokens, norm.normalized_shape, weight, bias, norm.eps)
    if not isinstance(norm, LevelNorm):
        return out
    return torch.cat([out, mean.to(out), inverse.reciprocal().to(out)], -1)  # which cost nothing here


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
        self.to_query = nn.Linear(of_tokens, self.inner)
        self.to_key = nn.Linear(of_context, self.inner)
        self.to_value = nn.Linear(of_context, self.inner)
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


class TextGuided(CrossAttention):
    """Branch 1 of Text-DFH: pixels are queries, words are keys and values."""

    def forward(self, pixels: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """Pixels [B,N,C], words [B,L,C'], mask [B,L], False for padding -> [B,N,C]."""
        return attend_to_words(pixels, self.norm_tokens, self.to_query, self.key(words), self.value(words), mask,
                               self.output)


class ImageGuided(CrossAttention):
    """Branch 2 of Text-DFH: words are queries, pixels are keys and values."""

    def forward(self, words: Tensor, pixels: Tensor) -> Tensor:
        """Words [B,L,C], pixels [B,N,C'] -> [B,L,C]."""
        return self.over_pieces(words, [pixels])

    def over_pieces(self, words: Tensor, images: Iterable[Tensor]) -> Tensor:
        """As `forward`, of an image whose pixels come in pieces [B,n,C'].

        The softmax over all pieces keeps its running maximum and sum (Milakov and Gimelshein 2018, arXiv:1805.02867).
        """
        to_key, _ = _folded(self.norm_context, self.to_key, self.heads)  # its bias is the same for all pixels
        query = (self.query(words) / (self.inner // self.heads) ** 0.5 @ to_key).flatten(1, 2)  # [B,heads*L,C']
        highest, total, attended = -torch.inf, 0, 0
        for part in (part for image in images for part in _pieces(image)):
            part = normalised(self.norm_context, part)
            scores = (query @ part.mT).float()  # under autocast, sums over many pixels need float32
            before, highest = highest, scores.detach().amax(-1, keepdim=True).clamp_min(highest)
            weights, fade = (scores - highest).exp(), (before - highest).exp()
            total = fade * total + weights.sum(-1, keepdim=True)
            attended = fade * attended + weights @ part
        to_value, bias = _folded(self.norm_context, self.to_value, self.heads)
        values = (attended / total).unflatten(1, (self.heads, -1)) @ to_value.mT + bias[:, None]
        return self.output(words + self.output.of_heads(values).sum(1))


class BackToGrid(nn.Module):
    """Bring the words' attention result back to the pixels by a third attention, the reverse of the second branch.

    The pixel's key serves as query, the word's query as key, and the word's attention result as value. No matrix of
    size HW x HW arises.
    """

    def __init__(self, branch: ImageGuided, channels: int, words: int | None = None, mlp: bool = True):
        super().__init__()
        self.to_value = nn.Linear(words or channels, branch.inner)
        self.output = AttentionOutput(channels, branch.inner, mlp)

    def forward(self, branch: ImageGuided, pixels: Tensor, words: Tensor, attended: Tensor, mask: Tensor) -> Tensor:
        """Pixels [B,HW,C], words and their attention result [B,L,C], mask [B,L] -> [B,HW,C]."""
        value = branch.split(self.to_value(attended))
        return attend_to_words(pixels, branch.norm_context, branch.to_key, branch.query(words), value, mask,
                               self.output)


def attend_to_words(pixels: Tensor, norm: nn.LayerNorm, to_query: nn.Linear, key: Tensor, value: Tensor, mask: Tensor,
                    output: AttentionOutput) -> Tensor:
    """output(softmax(QK^T / sqrt(d)) V) with the pixels' Q = to_query(norm(pixels)): [B,N,C] -> [B,N,C].

    Args:
        pixels: [B,N,C].
        norm, to_query: the layers that make their queries.
        key, value: of the words, [B,heads,L,d].
        mask: [B,L], False for padding.
        output: the layers after the attention.
    """
    weight, bias = _folded(norm, to_query, key.shape[1])
    key, value = key / key.shape[-1] ** 0.5, output.of_heads(value).flatten(1, 2)
    shift = (key @ bias[..., None]).masked_fill(~mask[:, None, :, None], -torch.inf).flatten(1, 2)  # [B,heads*L,1]
    folded = (key @ weight).flatten(1, 2)

    def of_piece(part):
        scores = torch.baddbmm(shift, folded, normalised(norm, part).mT)  # words first: softmax over L is faster so
        weights = scores.unflatten(1, key.shape[1:3]).softmax(2).flatten(1, 2)
        return output(torch.baddbmm(part, weights.mT, value))

    return torch.cat([of_piece(part) for part in _pieces(pixels)], 1)


def _folded(norm: nn.LayerNorm, linear: nn.Linear, heads: int) -> tuple[Tensor, Tensor]:
    """The weight [heads,d,in] and bias [heads,d] of a linear layer and the norm before it, for `normalised` tokens."""
    own, level = linear.weight.tensor_split([len(norm.weight)], 1)
    weight = torch.cat([own * norm.weight, level], 1)
    return weight.unflatten(0, (heads, -1)), (linear.bias + own @ norm.bias).unflatten(0, (heads, -1))


def _pieces(pixels: Tensor) -> Sequence[Tensor]:
    return pixels.split(PIECE if pixels.device.type == "cpu" else 16 * PIECE, 1)


def as_tokens(features: Tensor) -> Tensor:
    """Pixels as tokens: [B,C,H,W] -> [B,HW,C]."""
    return features.flatten(2).transpose(1, 2)


def as_image(tokens: Tensor, height: int, width: int) -> Tensor:
    """Tokens as pixels: [B,HW,C] -> [B,C,H,W], in channels-last, whose strides no view of the tokens would have."""
    return tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2)
