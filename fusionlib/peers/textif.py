"""Text-IF: a U-Net of channel attention, modulated at each level by CLIP's embedding of a sentence."""

import functools
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from fusionlib.peers.layers import Named, RestormerBlock
from fusionlib.peers.peer import Peer
from fusionlib.utils.errors import FusionError

CLIP = "openai/clip-vit-base-patch32"
PROMPT = "This is the infrared and visible light image fusion task."  # the release's for fusion without degradation
WIDTHS = (48, 96, 192, 384)
HEADS = (1, 2, 4, 8)
TEXT = 512

_conv1 = functools.partial(nn.Conv2d, kernel_size=1, bias=False)
_conv3 = functools.partial(nn.Conv2d, kernel_size=3, padding=1, bias=False)


class TextIF(Peer):
    """Text-IF: two encoders, cross-attention at the coarsest level, and a decoder that the text modulates.

    Yi, Xu, Zhang, Tang, Ma: Text-IF: Leveraging Semantic Text Guidance for Degradation-Aware and Interactive Image
    Fusion, CVPR 2024.

    63,839,230 parameters, without CLIP. Takes infrared and visible colour [B,3,H,W] in 0..1 with sides in multiples of
    16, and CLIP ViT-B/32's vector of a sentence; gives colour [B,3,H,W] without a final activation. MIT licence; the
    user provides the weights and those of CLIP (the copy in a file of the release, under `model_clip.`, is not used).

    As in the release, sides are resized to multiples of 16, the colour image as a whole is stretched to its own minimum
    and maximum on saving (`official_postprocess`), and cross-attention adds to the normalised features. At 1/8 of the
    size each pixel attends to all others, in time quadratic in the number of pixels and in linear memory.

    `clip` is the folder or the name on the Hub of the CLIP model that reads sentences; it must be on this machine by
    the time a sentence is given.
    """

    channels = 3
    multiple = 16
    fit = "resize"
    official_stretch = True
    takes_text = True
    bytes_per_pixel = 8000

    def __init__(self, clip: str | Path = CLIP):
        super().__init__()
        self.clip = clip
        first, second, third, last = WIDTHS
        self.encoder_A, self.encoder_B = _Encoder(), _Encoder()
        self.cross_attention = _CrossAttention(last)
        self.attention_spatial = _SpatialAttention(last)
        for level, width in enumerate(WIDTHS, 1):
            self.add_module(f"feature_fusion_{level}", Named(fusion_proj=_conv1(2 * width, width)))
            self.add_module(f"prompt_guidance_{level}", _Guidance(width))
        self.decoder_level4 = _level(last, HEADS[3])
        self.up4_3, self.reduce_chan_level3 = _up(last), _conv1(last, third)
        self.decoder_level3 = _level(third, HEADS[2])
        self.up3_2, self.reduce_chan_level2 = _up(third), _conv1(third, second)
        self.decoder_level2 = _level(second, HEADS[1])
        self.up2_1, self.decoder_level1 = _up(second), _level(2 * first, HEADS[0])
        self.refinement, self.output = _level(2 * first, HEADS[0], depth=4), _conv3(2 * first, 3)

    def forward(self, ir: Tensor, visible: Tensor, text: str | Tensor | None = None) -> Tensor:
        """Fuse `ir` [B,3,H,W], one channel three times, and `visible` [B,3,H,W] RGB, in 0..1, to [B,3,H,W] RGB.

        Args:
            text: a sentence, or CLIP's vector of it, [1 or B,512]; None is the release's prompt for images without
                degradation.

        Raises:
            FusionError: a vector of another shape, or a sentence without CLIP on this machine.
        """
        vector = text if isinstance(text, Tensor) else sentence_vector(PROMPT if text is None else text, self.clip)
        if vector.shape not in ((1, TEXT), (len(ir), TEXT)):
            raise FusionError(f"expected CLIP's vector of a sentence, [1,{TEXT}] or one per image, "
                              f"found {list(vector.shape)}: take the one that ViT-B/32 projects its text to")
        vector = vector.to(ir)
        *skips, (a, b) = zip(self.encoder_A(visible), self.encoder_B(ir))
        fusions = self.feature_fusion_1, self.feature_fusion_2, self.feature_fusion_3
        skips = [fuse(torch.cat(skip, 1)) for fuse, skip in zip(fusions, skips)]
        x = self.attention_spatial(self.feature_fusion_4(torch.cat(self.cross_attention(a, b), 1)))
        x = self.up4_3(self.decoder_level4(self.prompt_guidance_4(x, vector)))
        x = self.reduce_chan_level3(torch.cat((self.prompt_guidance_3(x, vector), skips.pop()), 1))
        x = self.up3_2(self.decoder_level3(x))
        x = self.reduce_chan_level2(torch.cat((self.prompt_guidance_2(x, vector), skips.pop()), 1))
        x = self.up2_1(self.decoder_level2(x))
        x = torch.cat((self.prompt_guidance_1(x, vector), skips.pop()), 1)
        return self.output(self.refinement(self.decoder_level1(x)))


@torch.no_grad()
def sentence_vector(sentence: str, clip: str | Path = CLIP) -> Tensor:
    """The text embedding of CLIP ViT-B/32, not normalised: [1,512] on the CPU.

    The sentence is truncated to CLIP's 77 tokens. `clip` is a folder or a name on the Hub; nothing is downloaded.

    Raises:
        FusionError: the model is not on this machine, or is a different one.
    """
    tokenizer, model = _read_clip(str(clip))
    tokens = tokenizer(sentence, truncation=True, max_length=model.config.max_position_embeddings, return_tensors="pt")
    return model(**tokens).text_embeds


@functools.lru_cache(maxsize=1)
def _read_clip(clip):
    from huggingface_hub import snapshot_download
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer

    remedy = (f'download it once with `hf download {CLIP} --exclude "*.h5" "*.msgpack"`, or give its folder as '
              f"TextIF(clip=...), or CLIP's vector [1,{TEXT}] in place of the sentence")
    try:
        # As a folder: for a name with .bin weights transformers would ask the Hub to convert them.
        folder = clip if Path(clip).is_dir() else snapshot_download(clip, local_files_only=True)
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        model = CLIPTextModelWithProjection.from_pretrained(folder, local_files_only=True).eval()
    except Exception as error:  # missing, incomplete and damaged models fail in many ways
        raise FusionError(f"Text-IF reads sentences with CLIP ViT-B/32 and found none at {clip} on this machine; "
                          f"nothing is downloaded automatically: {remedy}") from error
    if model.config.projection_dim != TEXT:
        raise FusionError(f"{clip}: expected CLIP ViT-B/32, whose vectors have {TEXT} numbers, found a model with "
                          f"{model.config.projection_dim}: {remedy}")
    return tokenizer, model


class _Encoder(nn.Module):
    """Features of four levels: [B,48,H,W], [B,96,H/2,W/2], [B,192,H/4,W/4], [B,384,H/8,W/8]."""

    def __init__(self):
        super().__init__()
        self.patch_embed = Named(proj=_conv3(3, WIDTHS[0]))
        self.encoder_level1 = _level(WIDTHS[0], HEADS[0])
        self.down1_2, self.encoder_level2 = _down(WIDTHS[0]), _level(WIDTHS[1], HEADS[1])
        self.down2_3, self.encoder_level3 = _down(WIDTHS[1]), _level(WIDTHS[2], HEADS[2])
        self.down3_4, self.encoder_level4 = _down(WIDTHS[2]), _level(WIDTHS[3], HEADS[3])

    def forward(self, image):
        first = self.encoder_level1(self.patch_embed(image))
        second = self.encoder_level2(self.down1_2(first))
        third = self.encoder_level3(self.down2_3(second))
        return first, second, third, self.encoder_level4(self.down3_4(third))


class _CrossAttention(nn.Module):
    """The queries of each modality attend to the other; the normalised features are added."""

    def __init__(self, width):
        super().__init__()
        self.norm_A, self.norm_B = nn.GroupNorm(16, width), nn.GroupNorm(16, width)
        self.qkv_A, self.qkv_B = _conv1(width, 3 * width), _conv1(width, 3 * width)
        self.out_A, self.out_B = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)

    def forward(self, a, b):
        a, b = self.norm_A(a), self.norm_B(b)
        query_a, *context_a = self.qkv_A(a).chunk(3, 1)
        query_b, *context_b = self.qkv_B(b).chunk(3, 1)
        return a + self.out_A(_attend(query_b, *context_a)), b + self.out_B(_attend(query_a, *context_b))


class _SpatialAttention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.qkv, self.out = nn.GroupNorm(16, width), _conv1(width, 3 * width), nn.Conv2d(width, width, 1)

    def forward(self, x):
        return x + self.out(_attend(*self.qkv(self.norm(x)).chunk(3, 1)))


def _attend(query, key, value):
    """Single-head attention with the pixels of [B,C,H,W] as tokens."""
    tokens = (x.flatten(2).transpose(1, 2)[:, None] for x in (query, key, value))
    return scaled_dot_product_attention(*tokens)[:, 0].transpose(1, 2).reshape(query.shape)


class _Guidance(nn.Module):
    """Scale and shift each channel by the text."""

    def __init__(self, width):
        super().__init__()
        self.MLP = nn.Sequential(nn.Linear(TEXT, 2 * TEXT), nn.LeakyReLU(), nn.Linear(2 * TEXT, 2 * width))

    def forward(self, x, vector):
        gamma, beta = self.MLP(vector)[..., None, None].chunk(2, 1)
        return torch.addcmul(beta, 1 + gamma, x)


def _level(width, heads, depth=2):
    return nn.Sequential(*(RestormerBlock(width, heads, _feed_forward) for _ in range(depth)))


def _feed_forward(width):
    """Without the depthwise convolution and the gate of Restormer."""
    return Named(
        project_in=_conv1(width, 2 * width), dwconv=_conv3(2 * width, 2 * width), act=nn.GELU(),
        project_out=_conv1(2 * width, width),
    )


def _down(width):
    return Named(body=nn.Sequential(_conv3(width, width // 2), nn.PixelUnshuffle(2)))


def _up(width):
    return Named(body=nn.Sequential(_conv3(width, 2 * width), nn.PixelShuffle(2)))
