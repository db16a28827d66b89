"""Fuse and refine whole images with a network, and show the attention of words."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import Module
from tqdm.auto import tqdm

from fusionlib.data.color import merge_luma, split_luma
from fusionlib.data.image_io import LazyImages, write_image
from fusionlib.data.pairs import Pair, load
from fusionlib.inference.tiling import tiled, tiles
from fusionlib.models.fusion_network import FusionNetwork, crop
from fusionlib.models.text_dfh import TextGuidedFusion
from fusionlib.utils.devices import best_device
from fusionlib.utils.errors import FusionError

# Side in pixels of the tiles of larger images, which bound the memory. Of 256, their borders, which are computed twice,
# take a sixth of the time.
TILE = 640
REACH = 3  # blocks of pixels that encoder and decoder each see on every side: three 3x3 convolutions


def placed(model: Module, device: torch.device | None = None) -> Module:
    """The model on a device, by default the best one; on a CPU in channels-last, in which convolutions are faster."""
    device = device or best_device()
    return model.to(device, memory_format=torch.channels_last if device.type == "cpu" else torch.preserve_format)


@torch.inference_mode()
def fuse(model: FusionNetwork | TextGuidedFusion, ir: Tensor, visible: Tensor, text: Tensor | None = None) -> Tensor:
    """Fuse one pair in colour: infrared [1,H,W] and visible RGB [3,H,W] -> RGB [3,H,W], all in 0..1.

    The luma is fused, Cb and Cr are the visible image's. Stage 2 needs the features [L,D] of a text. Images of more
    than `TILE` x `TILE` pixels are fused tile by tile, equal to the result of the whole to 1e-5, so that memory beyond
    the images themselves does not grow with their size.

    Raises:
        FusionError: images of other shapes, of different sizes, or of less than 2x2 pixels.
    """
    size = visible.shape[1:]
    if len(size) != 2 or len(visible) != 3 or ir.shape != (1, *size) or min(size) < 2:
        raise FusionError("Expected infrared [1,H,W] and visible [3,H,W] images of one size from 2x2 pixels on, found "
                          f"{list(ir.shape)} and {list(visible.shape)}: register them, or convert the channels")
    device = next(model.parameters()).device
    ir, visible = ir[None], visible[None]
    whole, block = size.numel() <= TILE**2, getattr(model, "network", model).block
    guidance, halo = (), 2 * REACH * block
    if text is not None:
        text, mask = text[None].to(device), torch.ones(1, len(text), dtype=torch.bool, device=device)
        guidance = (text, mask) if whole else (text, mask, _context(model, ir, visible, text))
        halo += model.harmonise["ir"].reach * block

    def fused(ir, visible):
        y, cbcr = split_luma(visible.to(device))
        return merge_luma(model(ir.to(device), y, *guidance), cbcr).cpu()

    return tiled(fused, (ir, visible), max(size) if whole else TILE, halo)[0]


def _context(model: TextGuidedFusion, ir: Tensor, visible: Tensor, text: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The attention of words [1,L,D] to both whole images [1,1 or 3,H,W], whose features are computed tile by tile."""
    network, block = model.network, model.network.block

    def attended(name, encoder, image):
        found = tiles(lambda tile: encoder(tile.to(text.device)), [image], TILE, REACH * block, block)
        return model.harmonise[name].context(text, (features for _, features in found))

    return (attended("ir", network.ir_encoder, ir),
            attended("vi", lambda tile: network.vi_encoder(split_luma(tile)[0]), visible))


def image_path(folder: Path, pair: Pair) -> Path:
    """The path of a pair's fused image: folder/dataset/split/name.png."""
    return folder / f"{pair.label}.png"


def fuse_pairs(model: FusionNetwork | TextGuidedFusion, pairs: Sequence[Pair], folder: Path,
               texts: Sequence[Tensor] | None = None) -> None:
    """Write the fused image of each pair at the pair's own size, as 8-bit PNG (see `image_path`).

    Existing images are kept, so that an interrupted call is resumed.
    """
    missing = [index for index, pair in enumerate(pairs) if not image_path(folder, pair).exists()]
    for index in tqdm(missing, desc="fusing", leave=False, disable=not missing):
        fused = fuse(model, *load(pairs[index]), None if texts is None else texts[index])
        write_image(image_path(folder, pairs[index]), fused)


def read_fused(folder: Path, pairs: Sequence[Pair]) -> LazyImages:
    """The fused images [3,H,W] in 0..1 of these pairs, each read when it is indexed."""
    return LazyImages([image_path(folder, pair) for pair in pairs])


@torch.inference_mode()
def word_attention(model: TextGuidedFusion, ir: Tensor, visible: Tensor, text: Tensor) -> Tensor:
    """Attention of each word of a text [L,D] to the infrared features of a pair: [L,H,W], each map sums to 1.

    All pixels of a block have the same.
    """
    device = next(model.parameters()).device
    f_ir, _ = model.network.encode(ir[None].to(device), split_luma(visible[None].to(device))[0])
    maps = model.harmonise["ir"].word_attention(f_ir, text[None].to(device))[0].cpu()
    maps = crop(maps.repeat_interleave(model.network.block, 1).repeat_interleave(model.network.block, 2), *ir.shape[1:])
    return maps / maps.sum((1, 2), keepdim=True)
