"""Stage 2: text-driven feature harmonization, Text-DFH (paper section 3.3, figure 4) and its ablations (4.5)."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu_

from fusionlib.models.cross_attention import BackToGrid, ImageGuided, LevelNorm, TextGuided, as_image, as_tokens
from fusionlib.models.fusion_network import FusionNetwork, OnHub, convolution, crop, feature_layer
from fusionlib.utils.errors import FusionError

VARIANTS = ("full", "no_dfh", "ca1", "ca2", "wide", "blind")
WIDTH = 64  # of the words in the variants "wide" and "blind"
DILATIONS = (1, 2, 4)  # of their convolutions
LEARNED_WORDS = 8  # of "blind"


class ModulatedLayers(nn.Module):
    """Convolutions of growing reach whose channels a vector scales and shifts: [B,in,H,W], [B,D] -> [B,C,H,W].

    Reference: Perez et al., FiLM: visual reasoning with a general conditioning layer, AAAI 2018. The last layer begins
    at zero.
    """

    def __init__(self, in_channels: int, channels: int, dim: int):
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels if number else in_channels, channels, 3, padding=dilation, dilation=dilation,
                      padding_mode="replicate") for number, dilation in enumerate(DILATIONS))  # fmt: skip
        self.modulation = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, 2 * channels * len(DILATIONS)))
        self.last = convolution(channels, channels)
        for parameter in (*self.modulation[-1].parameters(), *self.last.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor, vector: Tensor) -> Tensor:
        """[B,in,H,W] and [B,D] -> [B,C,H,W]."""
        modulation = self.modulation(vector)[..., None, None].chunk(2 * len(DILATIONS), 1)
        for number, layer in enumerate(self.convolutions):
            scale, shift = modulation[2 * number : 2 * number + 2]
            result = leaky_relu_(torch.addcmul(shift, layer(features), 1 + scale), 0.2)
            features = features + result if number else result
        return self.last(features)


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
            features and convolved (paper section 4.5). Not in the paper: "wide", both branches with words of 64
            channels and the level of the pixels beside their LayerNorm, and `ModulatedLayers` modulated by the mean
            result of branch 2; "blind", the control of "wide" that reads no text: learned vectors in place of the
            words, by which branch 2 sums up the image.
    """

    def __init__(self, channels: int, text_dim: int, variant: str = "full"):
        super().__init__()
        if variant not in VARIANTS:
            raise FusionError(f"variant must be one of {', '.join(VARIANTS)}, but is {variant!r}.")
        self.config = {"channels": channels, "text_dim": text_dim, "variant": variant}
        self.variant = variant
        self.reach = 3  # pixels that a result depends on to every side, but for the attention
        if variant in ("wide", "blind"):
            self._build_wide(channels, text_dim)
            return
        self.embed = nn.Linear(text_dim, channels)
        if variant in ("full", "ca1"):
            self.text_guided = TextGuided(channels)
        if variant in ("full", "ca2"):
            self.image_guided = ImageGuided(channels)
            self.back_to_grid = BackToGrid(self.image_guided, channels)
        width = channels if variant in ("ca1", "ca2") else 2 * channels
        self.layers = nn.Sequential(feature_layer(width, channels), feature_layer(channels, channels),
                                    convolution(channels, channels))
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

    def _build_wide(self, channels, text_dim):
        self.reach = sum(DILATIONS) + 1
        if self.variant == "blind":
            self.learned = nn.Parameter(torch.randn(LEARNED_WORDS, WIDTH))
        else:
            self.embed = nn.Sequential(nn.Linear(text_dim, WIDTH), nn.LayerNorm(WIDTH))
        heads = {"width": WIDTH, "head_dim": 32}  # of 16 dimensions, attention takes twice the time on a CPU
        # MLPs of words cost little, those of pixels would cost as much as a layer.
        self.text_guided = TextGuided(channels, WIDTH, norm_tokens=LevelNorm, mlp=False, **heads)
        self.image_guided = ImageGuided(WIDTH, channels, norm_context=LevelNorm, **heads)
        self.back_to_grid = BackToGrid(self.image_guided, channels, WIDTH, mlp=False)
        self.layers = ModulatedLayers(2 * channels, channels, WIDTH)

    @property
    def attends_to_image(self) -> bool:
        """Whether the variant has the image-guided branch."""
        return hasattr(self, "image_guided")

    @property
    def has_word_attention(self) -> bool:
        """Whether `word_attention` has maps to return: the variant has the image-guided branch and reads text."""
        return self.attends_to_image and self.variant != "blind"

    def words(self, text: Tensor) -> Tensor:
        """What the branches see of a text: [B,L,D] -> [B,L,C], or [B,8,64] of "blind"."""
        return self.learned.expand(len(text), -1, -1) if self.variant == "blind" else self.embed(text)

    def context(self, text: Tensor, features: Iterable[Tensor]) -> Tensor | None:
        """The result [B,L,C] of the image-guided branch on an image whose features come in tiles [B,C,h,w].

        None where the variant has no such branch.
        """
        if not self.attends_to_image:
            return None
        return self.image_guided.over_pieces(self.words(text), map(as_tokens, features))

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
        words = self.words(text)
        if self.variant == "blind":
            mask = torch.ones(words.shape[:2], dtype=torch.bool, device=words.device)
        if self.variant == "no_dfh":
            mean = (words * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            branches = [features, mean[:, :, None, None].expand(-1, -1, height, width)]
        else:
            pixels = as_tokens(features)
            branches = []
            if self.variant != "ca2":
                branches.append(self.text_guided(pixels, words, mask))
            if self.attends_to_image:
                context = self.image_guided(words, pixels) if context is None else context  # [B,L,C]
                branches.append(self.back_to_grid(self.image_guided, pixels, words, context, mask))
            branches = [as_image(tokens, height, width) for tokens in branches]
        branches = torch.cat(branches, dim=1)
        if self.variant in ("wide", "blind"):
            mean = (context * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            return features + self.layers(branches, mean)
        return features + self.layers(branches)

    @torch.no_grad()
    def word_attention(self, features: Tensor, text: Tensor) -> Tensor:
        """Attention map of each word: the second branch's softmax over pixels, mean over heads, [B,L,H,W]; sums to 1.

        For figures, because it holds L x HW weights. Raises FusionError without `has_word_attention`.
        """
        if not self.has_word_attention:
            raise FusionError(f"variant {self.variant!r} has no branch in which words attend to the image, so no "
                              "attention of words to show.")
        branch, pixels = self.image_guided, as_tokens(features)
        query, key = branch.query(self.words(text)), branch.key(pixels)
        weights = (query @ key.transpose(2, 3) / query.shape[-1] ** 0.5).softmax(dim=-1).mean(dim=1)
        return weights.unflatten(2, features.shape[2:])


class TextGuidedFusion(nn.Module, OnHub):
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
