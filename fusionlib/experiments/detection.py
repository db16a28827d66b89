"""Pedestrian detection in the source, fused and refined images of pairs.

Two detectors look at the same images: the one in the loss of stage 2, which taught it what to show, and where the run
has one, a held-out one that was in no loss.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from fusionlib.data.annotations import PERSON
from fusionlib.data.datasets import letterbox, people
from fusionlib.data.image_io import image_size
from fusionlib.data.pairs import Pair, load
from fusionlib.detection.checkpoints import load_yolov5
from fusionlib.detection.detectors import class_indices, detect, load_detector
from fusionlib.detection.precision_recall import HIGHER_IS_BETTER, measure
from fusionlib.experiments.run import Run
from fusionlib.inference.network import fuse
from fusionlib.models.fusion_network import FusionNetwork
from fusionlib.models.text_dfh import TextGuidedFusion
from fusionlib.peers import BASELINES, build
from fusionlib.utils.devices import best_device
from fusionlib.utils.errors import FusionError
from fusionlib.visualization.tables import by_detector


def load_detectors(run: Run) -> dict[str, nn.Module]:
    """The detectors of a run by the names of their files: that of the loss first, then the held-out one if it has one.

    Without a held-out detector a sentence says how to add one.

    Raises:
        FusionError: weights are missing or do not fit, the held-out detector is that of the loss, or knows no person.
    """
    weights = run.weights(run.profile.detector)
    detectors = {weights.stem: load_yolov5(weights, best_device())}
    if not run.profile.held_out_detector:
        print(f"{weights.name}, which taught stage 2, judges alone: to add a detector that was in no loss, put its "
              "weights beside the others and set held_out_detector to their name, such as yolox_nano.onnx.")
        return detectors
    held_out = run.weights(run.profile.held_out_detector)
    if held_out.stem in detectors:
        raise FusionError(f"{held_out}: expected a held_out_detector that is in no loss, found the one that stage 2 "
                          "learns from: name another one, or none")
    detectors[held_out.stem] = load_detector(held_out, best_device())
    class_indices(detectors[held_out.stem], [PERSON])
    return detectors


def sources_and_results(pair: Pair, size: tuple[int, int], network: FusionNetwork,
                        refined: TextGuidedFusion | None = None, text: Tensor | None = None,
                        reduced_first: bool = False) -> dict[str, Tensor]:
    """The candidate images of one pair, fused at its own size, then letterboxed to the detector's: [3,h,w] in 0..1.

    "infrared" (three equal channels), "visible", those of `peers.BASELINES`, "fused" by stage 1, and "refined" by
    Text-DFH if given. With `reduced_first` the last two come again as "..., reduced first": letterboxed before they are
    fused, as stage 2 is trained.
    """
    ir, visible = load(pair)
    images = {"infrared": ir.expand(3, -1, -1), "visible": visible}
    images |= {name: build(name).fuse(ir, visible) for name in BASELINES}
    networks = {"fused": (network,)} | ({} if refined is None else {"refined": (refined, text)})
    images |= {name: fuse(each, ir, visible, *texts) for name, (each, *texts) in networks.items()}
    images = {name: letterbox(image, size)[0] for name, image in images.items()}
    if reduced_first:
        small = letterbox(torch.cat([ir, visible]), size)[0].split([1, 3])
        images |= {f"{name}, reduced first": fuse(each, *small, *texts) for name, (each, *texts) in networks.items()}
    return images


def find_people(detectors: Mapping[str, nn.Module], pairs: Sequence[Pair], size: tuple[int, int],
                network: FusionNetwork, refined: TextGuidedFusion, texts: Sequence[Tensor]
                ) -> tuple[dict[str, dict[str, list[Tensor]]], list[Tensor]]:  # fmt: skip
    """Detect people in every candidate image (`sources_and_results`) of labelled pairs.

    The candidates that are reduced first are among them if any pair has another size than the detectors' input.

    Returns {detector: {candidate: [n,6] per pair}} and the true boxes [m,4] per pair, all xyxy in pixels at the
    detectors' size; for regions to ignore see `protocols.ignored`.
    """
    found, truths = {name: {} for name in detectors}, []
    reduced_first = any(image_size(pair.ir) != tuple(size) for pair in pairs)
    for pair, text in zip(tqdm(pairs, desc="detecting", leave=False), texts):
        for name, image in sources_and_results(pair, size, network, refined, text, reduced_first).items():
            for judge, each in detectors.items():
                found[judge].setdefault(name, []).extend(detect(each, [image]))
        truths.append(people(pair, size))
    return found, truths


def detection_table(found: Mapping[str, Mapping[str, list[Tensor]]], truths: Sequence[Tensor],
                    ignore: Sequence[Tensor] | None = None) -> pd.DataFrame:  # fmt: skip
    """Detection measures per candidate, of {detector: {candidate: boxes}}.

    The columns are the first detector's mAP@.5, mAP@.75, mAP@.5:.95, R@P.9 and LAMR; those of each other detector,
    labelled with its name; the numbers of images and of true boxes.
    """
    cells = {judge: {name: {key: value for key, value in measure(boxes, truths, 0, {}, ignore).items()
                            if key in HIGHER_IS_BETTER} for name, boxes in each.items()}
             for judge, each in found.items()}
    table = pd.DataFrame.from_dict(by_detector(cells), orient="index")
    return table.assign(images=len(truths), boxes=sum(map(len, truths)))
