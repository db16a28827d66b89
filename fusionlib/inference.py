"""Fuse and refine whole images, and find people in them: what notebooks do with trained networks."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from fusionlib.data.pairs import Pair, load, merge_luma, split_luma, write_image
from fusionlib.data.pictures import Pictures
from fusionlib.data.samples import fit_into, people
from fusionlib.detection import YOLOv5, detect, measure
from fusionlib.models import FusionNetwork, TextGuidedFusion


@torch.inference_mode()
def fuse(model: FusionNetwork | TextGuidedFusion, ir: Tensor, visible: Tensor, text: Tensor | None = None) -> Tensor:
    """Fuse one pair in colour: the luma is fused, Cb and Cr are the visible image's.

    Args:
        model: stage 1, or stage 2 with the features of a text.
        ir: [1,H,W] in 0..1.
        visible: [3,H,W] in 0..1.
        text: [L,D] for stage 2.

    Returns:
        [3,H,W] in 0..1.
    """
    device = next(model.parameters()).device
    y, cbcr = split_luma(visible[None].to(device))
    ir = ir[None].to(device)
    if text is None:
        fused = model(ir, y)
    else:
        mask = torch.ones(1, len(text), dtype=torch.bool, device=device)
        fused = model(ir, y, text[None].to(device), mask)
    return merge_luma(fused, cbcr)[0].cpu()


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
    detector: YOLOv5, pairs: Sequence[Pair], size: tuple[int, int], network: FusionNetwork,
    refined: TextGuidedFusion, texts: Sequence[Tensor],
) -> tuple[dict[str, list[Tensor]], list[Tensor]]:  # fmt: skip
    """Detections of people in every candidate image of labelled pairs.

    Returns:
        {candidate: [n,6] per pair} and the true boxes [m,4] per pair, all xyxy in pixels at the detector's size.
    """
    found, truths = {}, []
    for pair, text in zip(tqdm(pairs, desc="detecting", leave=False), texts):
        for name, image in candidates(pair, size, network, refined, text).items():
            found.setdefault(name, []).extend(detect(detector, [image]))
        truths.append(people(pair, size))
    return found, truths


def detection_table(found: dict[str, list[Tensor]], truths: list[Tensor]) -> pd.DataFrame:
    """Detection of people per candidate: mAP@.5, mAP@.75, mAP@.5:.95, LAMR, number of images and of true boxes."""
    table = pd.DataFrame({name: measure(boxes, truths, heights={}) for name, boxes in found.items()}).T
    return table.astype({"images": int, "boxes": int})


def word_attention(model: TextGuidedFusion, ir: Tensor, visible: Tensor, text: Tensor) -> Tensor:
    """Where each word of a text [L,D] looks in the infrared features of a pair: [L,H,W], each map sums to 1."""
    device = next(model.parameters()).device
    y, _ = split_luma(visible[None].to(device))
    with torch.inference_mode():
        f_ir, _ = model.network.encode(ir[None].to(device), y)
        return model.harmonise["ir"].word_attention(f_ir, text[None].to(device))[0].cpu()
