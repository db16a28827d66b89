"""Two protocols to compare fusion methods by pedestrian detection in their images (paper 4.4.2, table 4).

Stock: one frozen detector for the images of all methods. Retrained: one detector per method, trained on its images from
the same pretrained weights; ours keeps the frozen one, as in the paper.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from torch import Tensor
from tqdm.auto import tqdm

from fusionlib.data import datasets
from fusionlib.data.annotations import PERSON
from fusionlib.data.datasets import PairDataset, letterbox, people
from fusionlib.data.matching import load_fused
from fusionlib.data.pairs import Pair, load
from fusionlib.detection.bootstrap import number_of, paired
from fusionlib.detection.checkpoints import load_yolov5, save_yolov5
from fusionlib.detection.detectors import UltralyticsDetector, class_indices, detect
from fusionlib.detection.yolov5 import YOLOv5
from fusionlib.experiments.methods import OURS, Method
from fusionlib.experiments.results import fuse_method
from fusionlib.experiments.run import Run
from fusionlib.metrics.statistics import LEVEL, count_verdicts, summarise_comparison
from fusionlib.training.detector import evaluate_detector, train_detector
from fusionlib.utils import devices
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import file_fingerprint, fingerprint

BATCH = 4  # of retraining: small, for many steps on few images
SOURCES = "infrared", "visible"  # as `load` returns them


def sources(run: Run) -> list[Method]:
    """Infrared alone and visible alone as methods, whose images are the files of the pairs."""
    return [Method(name, "source", run.stage(f"methods/{name}").folder) for name in SOURCES]


class MethodImages(PairDataset):
    """The images of one method as a detection data set: (image [3, H, W] in 0..1, people [N, 4], to ignore [K, 4]).

    The images are letterboxed to `size` (H, W), boxes are xyxy in pixels of them. Raises FusionError for a pair without
    labels.
    """

    def __init__(self, method: Method, pairs: Sequence[Pair], size: tuple[int, int]):
        super().__init__(pairs, seed=0, train=False)
        self.method, self.size = method, size
        self.truths, self.ignore = truths(pairs, size), ignored(pairs, size)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:  # no other pair replaces one that is unreadable
        return self.stored(index, self._read) / 255, self.truths[index], self.ignore[index]

    def _read(self, pair):
        if self.method.name in SOURCES:  # in the range in which every other method sees it
            image = load(pair)[SOURCES.index(self.method.name)]
        else:
            image = load_fused(self.method.image_path(pair), pair)
        return letterbox(image.expand(3, -1, -1), self.size)[:1]


def truths(pairs: Sequence[Pair], size: tuple[int, int]) -> list[Tensor]:
    """The true boxes [N, 4] of people in labelled pairs, xyxy in pixels of the image letterboxed to `size`."""
    if unlabelled := [pair.label for pair in pairs if pair.boxes is None]:
        raise FusionError(f"{unlabelled[0]}: expected a pair with labels of people, found none: leave it out.")
    return [people(pair, size) for pair in pairs]


def ignored(pairs: Sequence[Pair], size: tuple[int, int]) -> list[Tensor]:
    """The regions to ignore [K, 4] in labelled pairs, as `truths`."""
    return [datasets.ignored(pair, size) for pair in pairs]


def stock(detector: YOLOv5 | UltralyticsDetector, methods: Sequence[Method], pairs: Sequence[Pair],
          size: tuple[int, int]) -> dict[str, list[Tensor] | None]:
    """Detect people [n, 6] in each image of each method with one frozen detector.

    The result is None for a method without weights, and for one that cannot fuse all of the pairs, which is printed.
    """
    images = {method.name: _images(method, pairs, size) for method in methods}
    return {name: each and _detect_people(detector, each) for name, each in images.items()}


def retrained(methods: Sequence[Method], train: Sequence[Pair], validation: Sequence[Pair], test: Sequence[Pair],
              weights: Path, run: Run) -> tuple[dict[str, list[Tensor] | None], dict[str, dict]]:
    """Retrain a detector for each method from the same weights: detections as of `stock`, and records of `retrain`."""
    found, records = dict.fromkeys(method.name for method in methods), {}
    for method in tqdm(methods, desc="retraining", leave=False):
        images = [_images(method, pairs, run.profile.detect_size) for pairs in (train, validation, test)]
        if None not in images:
            detector, records[method.name] = retrain(*images[:2], weights, run)
            found[method.name] = _detect_people(detector, images[2])
    return found, records


def _images(method, pairs, size):
    """The images of a method, fused first where they are missing; None where not all of them can be."""
    if method.folder is None:
        return None
    if problems := fuse_method(method, pairs):
        label, reason = next(iter(problems.items()))
        print(f"{method.name} cannot fuse {len(problems)} of {len(pairs)} pairs, the first is {label}: {reason}")
        return None
    return MethodImages(method, pairs, size)


def _detect_people(detector, images):
    return detect(detector, (images[index][0] for index in range(len(images))))


def retrain(train: MethodImages, validation: MethodImages, weights: Path, run: Run) -> tuple[YOLOv5, dict]:
    """Train a detector on the images of one method, as a stage in the method's folder; resumes an interrupted training.

    The head keeps all classes of the pretrained weights, but is trained on people alone, so that it starts as the stock
    detector. The best epoch has the highest mAP@.5:.95 on the validation pairs; the pretrained weights count as epoch
    0, so a training that improves nothing is discarded.

    Args:
        train, validation: images of the same method.
        weights: of a classic YOLOv5 whose class 0 is the person.
        run: its profile sets size, epochs and learning rate.

    Returns:
        The detector, and {"epoch": the best, "epochs", "validation": mAP@.5:.95 before and after each epoch}.

    Raises:
        FusionError: no training pairs, no people in the validation pairs, or other weights.
    """
    settings = run.profile
    model = load_yolov5(weights, devices.best_device())
    if class_indices(model, [PERSON]) != [0]:
        raise FusionError(f"{weights}: expected a detector whose class 0 is the person, found {model.names[0]}: choose "
                          "other weights to retrain from.")
    if not len(train) or not any(map(len, validation.truths)):
        raise FusionError(f"a detector is retrained on labelled pairs and chosen by others with people in them, found "
                          f"{len(train)} and {len(validation)}: add labels, or set detection_datasets to others.")
    images = [[pair.label, file_fingerprint(each.method.image_path(pair)), pair.ir_range, boxes.tolist(),
               regions.tolist()] for each in (train, validation)
              for pair, boxes, regions in zip(each.pairs, each.truths, each.ignore)]
    stage = run.stage(
        train.method.folder / "detector", train_detector, MethodImages, images=fingerprint([len(train), *images]),
        weights=file_fingerprint(weights), batch=BATCH, amp=settings.amp, **settings.part("detector_", "detect_size"),
    )
    best = stage.folder / "best.safetensors"
    with stage.alone():
        if stage.provenance is None:
            start = evaluate_detector(model, validation)["mAP@.5:.95"]
            train_detector(
                model, train, stage.folder, validation=validation, epochs=settings.detector_epochs, seed=settings.seed,
                batch_size=BATCH, learning_rate=settings.detector_lr, bf16=settings.amp == "bf16",
                workers=settings.workers,
            )
            start = float(f"{start:.6g}")  # with as many digits as the curves
            scores = [start, *pd.read_csv(stage.folder / "curves.csv")["mAP@.5:.95"]]
            epoch = max(index for index, score in enumerate(scores) if score == max(scores))
            if not epoch:
                save_yolov5(load_yolov5(weights), best)
            stage.finish(epoch=epoch, epochs=settings.detector_epochs, validation=scores)
            shutil.rmtree(stage.folder / "checkpoint")  # large, and no longer needed
    return load_yolov5(best, devices.best_device()), stage.provenance["facts"]


def answer(found: Mapping[str, Sequence[Tensor] | None], boxes: Sequence[Tensor], reference: str = OURS,
           measures: Sequence[str] = ("mAP@.5:.95", "mAP@.5", "LAMR"), ignore: Sequence[Tensor] | None = None,
           scenes: Sequence[str] | None = None) -> str:
    """Compare the reference with the other methods in words.

    Args:
        found: {method: predictions as for `detection.measure`, or None}, including the reference.
        boxes: the true boxes [m, 4] per image.
        measures: to report; verdicts are counted for the first.
        ignore, scenes: as for `detection.paired`.

    Returns:
        The numbers of verdicts; and a line for each other method with the verdict of `paired` on the reference, the
        difference, reference minus the other, and its 95 % interval.
    """
    found = {name: predictions for name, predictions in found.items() if predictions is not None}
    others = [name for name in found if name != reference]
    rows = paired(found, reference, boxes, heights={}, ignore=ignore, scenes=scenes).loc[
        [(other, name) for other in others for name in measures]]
    swapped = rows["verdict"].replace({"better": "worse", "worse": "better"})
    compared = pd.DataFrame({"difference": -rows["difference"], "low": -rows["high"], "high": -rows["low"],
                             "verdict": swapped}).rename("Against {}".format, level=0)
    lines = [f"By {measures[0]}, {reference} against {len(others)} others on "
             f"{number_of(len(boxes), scenes)} with {sum(map(len, boxes))} people: "
             f"{count_verdicts(compared.xs(measures[0], level=1)['verdict'])} "
             f"(p < {LEVEL} after Holm's correction).", *summarise_comparison(compared)]
    return "\n".join(lines)
