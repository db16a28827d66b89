"""Pedestrian detection in the source, fused and refined images of pairs."""

from collections.abc import Sequence

import pandas as pd
from torch import Tensor, nn
from tqdm.auto import tqdm

from fusionlib.data.datasets import letterbox, people
from fusionlib.data.pairs import Pair, load
from fusionlib.detection.detectors import detect
from fusionlib.detection.precision_recall import measure
from fusionlib.inference.network import fuse
from fusionlib.models.fusion_network import FusionNetwork
from fusionlib.models.text_dfh import TextGuidedFusion
from fusionlib.peers import BASELINES, build


def sources_and_results(pair: Pair, size: tuple[int, int], network: FusionNetwork,
                        refined: TextGuidedFusion | None = None, text: Tensor | None = None) -> dict[str, Tensor]:
    """The candidate images of one pair, each [3,h,w] in 0..1, letterboxed to the detector's size.

    "infrared" (three equal channels), "visible", those of `peers.BASELINES`, "fused" by stage 1, and "refined" by
    Text-DFH if given.
    """
    ir, visible, _ = letterbox(*load(pair), size)
    images = {"infrared": ir.expand(3, -1, -1), "visible": visible}
    images |= {name: build(name).fuse(ir, visible) for name in BASELINES}
    images["fused"] = fuse(network, ir, visible)
    if refined is not None:
        images["refined"] = fuse(refined, ir, visible, text)
    return images


def find_people(detector: nn.Module, pairs: Sequence[Pair], size: tuple[int, int], network: FusionNetwork,
                refined: TextGuidedFusion, texts: Sequence[Tensor]) -> tuple[dict[str, list[Tensor]], list[Tensor]]:
    """Detect people in every candidate image (`sources_and_results`) of labelled pairs.

    Returns {candidate: [n,6] per pair} and the true boxes [m,4] per pair, all xyxy in pixels at the detector's size;
    for regions to ignore see `protocols.ignored`.
    """
    found, truths = {}, []
    for pair, text in zip(tqdm(pairs, desc="detecting", leave=False), texts):
        for name, image in sources_and_results(pair, size, network, refined, text).items():
            found.setdefault(name, []).extend(detect(detector, [image]))
        truths.append(people(pair, size))
    return found, truths


def detection_table(found: dict[str, list[Tensor]], truths: list[Tensor],
                    ignore: list[Tensor] | None = None) -> pd.DataFrame:
    """Detection measures per candidate: mAP@.5, mAP@.75, mAP@.5:.95, R@P.9, LAMR, numbers of images and true boxes."""
    table = pd.DataFrame({name: measure(boxes, truths, 0, {}, ignore) for name, boxes in found.items()}).T
    return table.astype({"images": int, "boxes": int})
