"""Two ways to compare fusion methods by the people that are found in their images (paper 4.4.2, table 4).

Stock: one frozen detector looks at every method's images. Retrained: each method has a detector of its own, trained on
its images from the same pretrained weights; ours keeps the frozen one, as in the paper.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from fusionlib.data.datasets import PERSON, PairDataset, letterbox, people
from fusionlib.data.image_io import as_tensor, read_image
from fusionlib.data.pairs import Pair
from fusionlib.detection.bootstrap import paired
from fusionlib.detection.checkpoints import load_yolov5, save_yolov5
from fusionlib.detection.detectors import UltralyticsDetector, class_indices, detect
from fusionlib.detection.yolov5 import YOLOv5
from fusionlib.experiments.methods import OURS, Method
from fusionlib.experiments.results import fuse_method
from fusionlib.experiments.run import Run
from fusionlib.metrics.statistics import LEVEL, count_verdicts, summarise_comparison
from fusionlib.training.detector import evaluate_detector, train_detector
from fusionlib.utils import distributed
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import file_fingerprint, fingerprint

SOURCES = ("infrared", "visible")
BATCH = 4  # images in a step of retraining: of few images many steps

Found = dict[str, list[Tensor] | None]


def sources(run: Run) -> list[Method]:
    """Infrared alone and visible alone as rows of the table; their images are read where they lie."""
    return [Method(name, "source", run.stage(f"methods/{name}").folder) for name in SOURCES]


class MethodImages(PairDataset):
    """The images of one method in front of a detector: (image [3, H, W] in 0..1, people [N, 4] xyxy in pixels of it).

    Args:
        method: one whose images of these pairs are there.
        pairs: labelled pairs.
        size: (H, W) that images are fitted into, their aspect ratio kept.

    Raises:
        FusionError: a pair without labels.
    """

    def __init__(self, method: Method, pairs: Sequence[Pair], size: tuple[int, int]):
        super().__init__(pairs, seed=0, train=False)
        self.method, self.size = method, size
        self.truths = truths(pairs, size)

    def path(self, pair: Pair) -> Path:
        """Where the image of a pair lies."""
        if self.method.name in SOURCES:
            return pair.ir if self.method.name == "infrared" else pair.visible
        return self.method.folder / "fused" / f"{pair.label}.png"

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:  # no other image may take one's place in a comparison
        return torch.cat(self.images(index, self._read)), self.truths[index]

    def _read(self, pair):
        image = as_tensor(read_image(self.path(pair))).expand(3, -1, -1)
        return letterbox(image[:1], image[1:], self.size)[:2]  # which fits any two pictures together


def truths(pairs: Sequence[Pair], size: tuple[int, int]) -> list[Tensor]:
    """The people [N, 4] of labelled pairs, xyxy in pixels of the image in front of the detector."""
    if unlabelled := [pair.label for pair in pairs if pair.boxes is None]:
        raise FusionError(f"{unlabelled[0]}: expected a pair with labels of people, found none: leave it out.")
    return [people(pair, size) for pair in pairs]


def stock(detector: YOLOv5 | UltralyticsDetector, methods: Sequence[Method], pairs: Sequence[Pair],
          size: tuple[int, int]) -> Found:
    """One frozen detector for all: people [n, 6] in each image of each method.

    None for a method without weights, and for one that cannot fuse all of the pairs, which is printed.
    """
    every = {method.name: _images(method, pairs, size) for method in methods}
    return {name: images and _detect_people(detector, images) for name, images in every.items()}


def retrained(methods: Sequence[Method], train: Sequence[Pair], validation: Sequence[Pair], test: Sequence[Pair],
              weights: Path, run: Run) -> tuple[Found, dict[str, dict]]:
    """A detector for each method, from the same weights (see `retrain`): found as by `stock`, and what was recorded."""
    found, facts = {}, {}
    for method in tqdm(methods, desc="retraining", leave=False):
        every = [_images(method, pairs, run.profile.detect_size) for pairs in (train, validation, test)]
        found[method.name] = None
        if None not in every:
            detector, facts[method.name] = retrain(*every[:2], weights, run)
            found[method.name] = _detect_people(detector, every[2])
    return found, facts


def _images(method, pairs, size):
    """MethodImages; what is missing is made first."""
    if method.folder is None:
        return None
    problems = {} if method.name in SOURCES else fuse_method(method, pairs)
    for label, reason in problems.items():
        print(f"{method.name} cannot fuse {len(problems)} of {len(pairs)} pairs, the first is {label}: {reason}")
        return None
    return MethodImages(method, pairs, size)


def _detect_people(detector, images):
    return detect(detector, (images[index][0] for index in range(len(images))))


def retrain(train: MethodImages, validation: MethodImages, weights: Path, run: Run) -> tuple[YOLOv5, dict]:
    """Train a detector on the images of one method and keep it in the method's folder; goes on where it stopped.

    It keeps all classes of the pretrained weights and learns the person alone, so that it starts as the stock detector
    does. The best epoch is the one with the highest mAP@.5:.95 on the validation pairs; the pretrained weights
    themselves, as epoch 0, are one of them, so that a training that helps nothing is left out.

    Args:
        train, validation: images of the same method.
        weights: of a classic YOLOv5 whose class 0 is the person.
        run: whose profile says size, epochs and learning rate.

    Returns:
        The detector, and "epoch" (the best), "epochs", and "validation" (mAP@.5:.95 before and after each epoch).

    Raises:
        FusionError: too few pairs, or other weights.
    """
    settings = run.profile
    model = load_yolov5(weights, distributed.best_device())
    if class_indices(model, [PERSON]) != [0]:
        raise FusionError(f"{weights}: expected a detector whose class 0 is the person, found {model.names[0]}: choose "
                          "other weights to retrain from.")
    if not len(train) or not any(map(len, validation.truths)):
        raise FusionError(f"a detector is retrained on labelled pairs and chosen by others with people in them, found "
                          f"{len(train)} and {len(validation)}: add labels, or set detection_dataset to another one.")
    images = [[pair.label, file_fingerprint(each.path(pair)), boxes.tolist()]
              for each in (train, validation) for pair, boxes in zip(each.pairs, each.truths)]
    folder = (train.method.folder / "detector").relative_to(run.folder)
    stage = run.stage(
        str(folder), train_detector, MethodImages, images=fingerprint([len(train), *images]),
        weights=file_fingerprint(weights), batch=BATCH, amp=settings.amp, **settings.part("detector_", "detect_size"),
    )  # fmt: skip
    best = stage.folder / "best.safetensors"
    if stage.provenance is None:
        start = float(f"{evaluate_detector(model, validation)['mAP@.5:.95']:.6g}")  # with as many digits as the curves
        train_detector(
            model, train, stage.folder, validation=validation, epochs=settings.detector_epochs, batch_size=BATCH,
            learning_rate=settings.detector_lr, bf16=settings.amp == "bf16", seed=settings.seed,
            workers=settings.workers,
        )  # fmt: skip
        scores = [start, *pd.read_csv(stage.folder / "curves.csv")["mAP@.5:.95"]]
        epoch = max(index for index, score in enumerate(scores) if score == max(scores))
        if not epoch:
            save_yolov5(load_yolov5(weights), best)
        stage.finish(epoch=epoch, epochs=settings.detector_epochs, validation=scores)
        shutil.rmtree(stage.folder / "checkpoint")  # large, and no longer needed
    return load_yolov5(best, distributed.best_device()), stage.provenance["facts"]


def answer(found: Mapping[str, Sequence[Tensor] | None], boxes: Sequence[Tensor], reference: str = OURS,
           measures: Sequence[str] = ("mAP@.5:.95", "mAP@.5", "LAMR")) -> str:
    """Whether a method holds against others, in words.

    Args:
        found: {row: predictions as for `measure`, or None}, the reference among them.
        boxes: the true boxes.
        reference: the method in question.
        measures: to speak about; the first one decides.

    Returns:
        How many rows it is better or worse than, and how many comparisons are inconclusive; and a line for each row
        with the verdict of `paired`, the difference, reference minus row, and its 95 % interval.
    """
    there = {name: predictions for name, predictions in found.items() if predictions is not None}
    others = [name for name in there if name != reference]
    # Four measures of each row are corrected together: with fewer resamples not even the least p would be below LEVEL.
    resamples = max(2000, int(2 * 4 * len(others) / LEVEL))
    rows = paired(there, reference, boxes, heights={}, resamples=resamples).loc[
        [(other, name) for other in others for name in measures]]
    swapped = rows["verdict"].replace({"better": "worse", "worse": "better"})
    compared = pd.DataFrame({"difference": -rows["difference"], "low": -rows["high"], "high": -rows["low"],
                             "verdict": swapped}).rename("Against {}".format, level=0)
    lines = [f"By {measures[0]}, {reference} against {len(others)} others on {len(boxes)} images with "
             f"{sum(map(len, boxes))} people: {count_verdicts(compared.xs(measures[0], level=1)['verdict'])} "
             f"(p < {LEVEL} after Holm's correction).", *summarise_comparison(compared)]
    return "\n".join(lines)
