"""Fuse and refine whole images, and find people in them: what notebooks do with trained networks."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from fusionlib.data.pairs import Pair, load, merge_luma, split_luma, write_image
from fusionlib.data.pictures import Pictures
from fusionlib.data.samples import fit_into, people
from fusionlib.errors import FusionError
from fusionlib.models import FusionNetwork, TextGuidedFusion
from fusionlib.tiles import parts, tiled

# Pixels of a side of the tiles that larger images are fused in. A tile's features stay in the processor's cache, which
# is faster than a large image at once, up to two times; 128 and 512 are slower, and 512 takes more memory.
TILE = 256
REACH = 3  # pixels that encoder, Text-DFH and decoder each look far: they have three 3x3 convolutions


@torch.inference_mode()
def fuse(model: FusionNetwork | TextGuidedFusion, ir: Tensor, visible: Tensor, text: Tensor | None = None) -> Tensor:
    """Fuse one pair in colour: the luma is fused, Cb and Cr are the visible image's.

    Images of more than `TILE` x `TILE` pixels are fused tile by tile, with the result of the whole to 1e-5: beside the
    images themselves, memory does not grow with their size.

    Args:
        model: stage 1, or stage 2 with the features of a text.
        ir: [1,H,W] in 0..1.
        visible: [3,H,W] in 0..1.
        text: [L,D] for stage 2.

    Returns:
        [3,H,W] in 0..1.

    Raises:
        FusionError: images of other shapes, of different sizes, or of less than 2x2 pixels.
    """
    size = visible.shape[1:]
    if len(size) != 2 or len(visible) != 3 or ir.shape != (1, *size) or min(size) < 2:
        raise FusionError(
            f"expected an infrared image [1,H,W] and a visible one [3,H,W] of one size from 2x2 pixels on, found "
            f"{list(ir.shape)} and {list(visible.shape)}: register one to the other, or give the channels that lack"
        )
    device = next(model.parameters()).device
    ir, visible = ir[None], visible[None]
    whole = size.numel() <= TILE**2
    given, halo = (), 2 * REACH
    if text is not None:
        text, mask = text[None].to(device), torch.ones(1, len(text), dtype=torch.bool, device=device)
        given, halo = (text, mask) if whole else (text, mask, _seen(model, ir, visible, text)), 3 * REACH

    def fused(ir, visible):
        y, cbcr = split_luma(visible.to(device))
        return merge_luma(model(ir.to(device), y, *given), cbcr).cpu()

    return tiled(fused, (ir, visible), max(size) if whole else TILE, halo)[0]


def _seen(model: TextGuidedFusion, ir: Tensor, visible: Tensor, text: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """What the words [1,L,D] see in both images [1,1 or 3,H,W], whose features are made tile by tile."""

    def see(name, features, image):
        tiles = parts(lambda tile: features(tile.to(text.device)), [image], TILE, REACH)
        return model.harmonise[name].see((tile for _, tile in tiles), text)

    network = model.network
    return (see("ir", network.ir_encoder, ir),
            see("vi", lambda tile: network.vi_encoder(split_luma(tile)[0]), visible))  # fmt: skip


def image_path(folder: Path, pair: Pair) -> Path:
    """Where the fused image of a pair lies: folder/dataset/split/name.png."""
    return folder / f"{pair.label}.png"


def fuse_pairs(
    model: FusionNetwork | TextGuidedFusion, pairs: Sequence[Pair], folder: Path, texts: Sequence[Tensor] | None = None
) -> None:
    """Write the fused image of each pair at the pair's own size, as 8-bit PNG (see `image_path`).

    Images that are there already are kept, so an interrupted call goes on where it stopped.
    """
    for index, pair in enumerate(tqdm(pairs, desc="fusing", leave=False)):
        path = image_path(folder, pair)
        if not path.exists():
            write_image(path, fuse(model, *load(pair), None if texts is None else texts[index]))


def read_fused(folder: Path, pairs: Sequence[Pair]) -> Pictures:
    """The fused images [3,H,W] in 0..1 of these pairs, each read when it is indexed."""
    return Pictures([image_path(folder, pair) for pair in pairs])


def candidates(
    pair: Pair, size: tuple[int, int], network: FusionNetwork, refined: TextGuidedFusion | None = None,
    text: Tensor | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """The images of one pair in which people are looked for, each [3,h,w] in 0..1 at the detector's size.

    infrared (three equal channels), visible, their mean, and fused by stage 1 and refined by Text-DFH where given.
    """
    ir, visible, _ = fit_into(*load(pair), size)
    images = {"infrared": ir.expand(3, -1, -1), "visible": visible, "mean": (ir + visible) / 2,
              "fused": fuse(network, ir, visible)}  # fmt: skip
    if refined is not None:
        images["refined"] = fuse(refined, ir, visible, text)
    return images


def find_people(
    detector: nn.Module, pairs: Sequence[Pair], size: tuple[int, int], network: FusionNetwork,
    refined: TextGuidedFusion, texts: Sequence[Tensor],
) -> tuple[dict[str, list[Tensor]], list[Tensor]]:  # fmt: skip
    """Detections of people in every candidate image of labelled pairs.

    Returns:
        {candidate: [n,6] per pair} and the true boxes [m,4] per pair, all xyxy in pixels at the detector's size.
    """
    from fusionlib.detection import detect  # here, since to fuse takes no detector, nor the seconds that one needs

    found, truths = {}, []
    for pair, text in zip(tqdm(pairs, desc="detecting", leave=False), texts):
        for name, image in candidates(pair, size, network, refined, text).items():
            found.setdefault(name, []).extend(detect(detector, [image]))
        truths.append(people(pair, size))
    return found, truths


def detection_table(found: dict[str, list[Tensor]], truths: list[Tensor]) -> pd.DataFrame:
    """Detection of people per candidate: mAP@.5, mAP@.75, mAP@.5:.95, LAMR, number of images and of true boxes."""
    from fusionlib.detection import measure

    table = pd.DataFrame({name: measure(boxes, truths, heights={}) for name, boxes in found.items()}).T
    return table.astype({"images": int, "boxes": int})


def word_attention(model: TextGuidedFusion, ir: Tensor, visible: Tensor, text: Tensor) -> Tensor:
    """Where each word of a text [L,D] looks in the infrared features of a pair: [L,H,W], each map sums to 1."""
    device = next(model.parameters()).device
    y, _ = split_luma(visible[None].to(device))
    with torch.inference_mode():
        f_ir, _ = model.network.encode(ir[None].to(device), y)
        return model.harmonise["ir"].word_attention(f_ir, text[None].to(device))[0].cpu()
