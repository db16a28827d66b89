"""Training of a YOLOv5 for pedestrians with the classic loss, and of the small detector that ships with the suite."""

from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

import fusionlib
from fusionlib.config import Profile
from fusionlib.data.synthetic.dataset import SceneImages
from fusionlib.detection.checkpoints import load_yolov5, save_yolov5
from fusionlib.detection.detectors import detect
from fusionlib.detection.precision_recall import average_precision
from fusionlib.detection.yolov5 import YOLOv5
from fusionlib.detection.yolov5_loss import YOLOv5Loss, to_targets
from fusionlib.training.trainer import fit
from fusionlib.utils import devices
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import read_json, write_json, writing

#: The small detector of the quick profile, trained by train_scene_detector on embedded scenes.
SCENE_DETECTOR = Path(fusionlib.__file__).parent / "weights" / "scene_detector.safetensors"


def train_detector(model: YOLOv5, dataset: Dataset, out: str | Path, *, validation: Dataset | None = None,
                   epochs: int = 30, batch_size: int = 8, learning_rate: float = 4e-3, weight_decay: float = 5e-4,
                   ema_decay: float = 0.998, augment: bool = True, hyp: dict | None = None, bf16: bool = False,
                   seed: int = 0, workers: int = 0) -> YOLOv5:
    """Train a detector; class 0 is the person.

    AdamW under a one-cycle schedule (warm-up over the first tenth, then cosine); an exponential moving average of the
    weights is evaluated, saved and returned. An interrupted run resumes bit-identically from its last epoch. Writes to
    `out` what `trainer.fit` does, `best.safetensors` (by mAP@.5:.95) only with `validation`, and `settings.json`.

    Args:
        model: network to start from, fresh or loaded; its weights are changed.
        dataset: yields image [3, H, W], RGB in 0..1, boxes [N, 4], x1, y1, x2, y2 in pixels, and optionally regions to
            ignore [K, 4]. All images have the same size, in multiples of 32.
        out: folder of the run.
        validation: as `dataset`, evaluated after every epoch.
        hyp: gains that differ from `yolov5_loss.HYP`. The official scaling for small images (`scale_hyp`) is left out,
            as it weakens the objectness: after the same short run on scenes mAP@.5 was .13 instead of .21.
        augment: flip, scale, shift, and change brightness, contrast and colours at random.
        bf16: mixed precision in bfloat16 (see bf16_supported).
        workers: processes that load the data.

    Raises:
        FusionError: the data set is empty, `out` holds a run with other settings, or as for `trainer.fit`.
    """
    out = Path(out)
    if not len(dataset):
        raise FusionError(f"{out}: a detector needs training images, found none in the data set")
    loss = YOLOv5Loss(model.anchors, model.strides, model.num_classes, hyp)
    settings = {"images": len(dataset), "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate,
                "weight_decay": weight_decay, "ema_decay": ema_decay, "augment": augment, "hyp": loss.hyp, "bf16": bf16,
                "seed": seed}
    found = read_json(out / "settings.json") or {}
    if changed := [key for key, value in settings.items() if found.get(key, value) != value]:
        raise FusionError(f"{out}: holds a run with other settings ({', '.join(changed)}): delete the folder to start "
                          "afresh, or choose another one")
    write_json(out / "settings.json", settings)

    def losses(network: nn.Module, batch: dict) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        images = batch["image"].contiguous(memory_format=torch.channels_last)
        targets, ignore = (to_targets(batch[name], images.shape[-2:]) for name in ("boxes", "ignore"))
        total, terms = loss(network(images), targets, ignore)
        return total, {"loss": total.detach() / len(images), **terms}

    def score(network: YOLOv5) -> dict[str, float]:
        measures = evaluate_detector(network, validation)
        return {"mAP@.5:.95": measures["mAP@.5:.95"]} | measures

    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]  # biases and BatchNorm
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": weight_decay},
                                   {"params": others, "weight_decay": 0.0}], lr=learning_rate)
    fit(
        model.to(memory_format=torch.channels_last), losses, _Images(dataset, seed, augment), None, out,
        Profile(seed=seed, amp="bf16" if bf16 else "no", workers=workers, schedule="one-cycle"),
        optimizer=optimizer, epochs=epochs, batch=batch_size, clip=10.0, reduction="sum", ema_decay=ema_decay,
        score=None if validation is None else score, save=save_yolov5,
    )  # fmt: skip
    name = "last" if validation is None else "best"
    return load_yolov5(out / f"{name}.safetensors", devices.best_device())


def evaluate_detector(model: YOLOv5, dataset: Dataset) -> dict[str, float]:
    """average_precision of the detector's class 0 over a data set as of `train_detector`."""
    rows = [dataset[i] for i in range(len(dataset))]
    found = detect(model, (row[0] for row in rows), classes=model.names[:1])
    ignore = [row[2] for row in rows if len(row) > 2]
    return average_precision(found, [row[1] for row in rows], ignore=ignore or None)


def bf16_supported() -> bool:
    """Whether bfloat16 makes convolutions faster here: a recent CUDA GPU, or a CPU with AVX512-BF16."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported()


def train_scene_detector(out: str | Path | None = None, scenes: int = 600, epochs: int = 30, seed: int = 1000,
                         size: tuple[int, int] = (256, 320), bf16: bool | None = None) -> dict[str, float]:
    """Train the small detector of the quick profile on synthetic scenes and write its weights, float16, about 1 MB.

    It is trained on visible and on infrared images, never on a fused one. No notebook uses the seed of its scenes.

    Args:
        out: the file to write; SCENE_DETECTOR by default. The training itself resumes from the folder scene_detector in
            data/runs or, with `out`, beside the file.
        scenes: number of training scenes; a tenth more is rendered for validation.
        epochs, seed, size (H, W), bf16: of the training and its scenes; bf16 by default where it is faster.

    Returns:
        Validation measures of the written detector.
    """
    if out and (suffix := Path(out).suffix) != ".safetensors":
        raise FusionError(f"{out}: expected the name of a file that ends in .safetensors, found "
                          f"{suffix or 'no ending'}; rename it")
    folder = (Path(out).parent if out else fusionlib.ROOT / "data" / "runs") / "scene_detector"
    with writing(folder):  # before anything is rendered
        folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model = YOLOv5(1, depth=0.33, width=0.125, names=["person"])
    validation = SceneImages(max(scenes // 10, 1), seed, size, first=scenes)
    model = train_detector(model, SceneImages(scenes, seed, size), folder, validation=validation, epochs=epochs,
                           seed=seed, bf16=bf16_supported() if bf16 is None else bf16)
    out = Path(out or SCENE_DETECTOR)
    save_yolov5(model, out, half=True)
    return evaluate_detector(load_yolov5(out), validation)


class _Images(Dataset):
    """Samples {"image", "boxes", "ignore", "name"} for `fit`, augmented by seed, epoch and index, or unchanged."""

    def __init__(self, dataset: Dataset, seed: int, augment: bool):
        self.dataset, self.seed, self.epoch = dataset, seed, 0
        self.transform = v2.Compose([
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(degrees=0, translate=(0.1, 0.1), scale=(0.6, 1.5), fill=0.45,
                            interpolation=v2.InterpolationMode.BILINEAR),
            v2.ColorJitter(brightness=0.4, contrast=0.3, saturation=0.5),
            v2.SanitizeBoundingBoxes(min_size=3, labels_getter=itemgetter(2)),
        ]) if augment else v2.Identity()

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        image, *both = self.dataset[index]
        kind = torch.cat([torch.full((len(boxes),), number) for number, boxes in enumerate(both)])
        boxes = tv_tensors.BoundingBoxes(torch.cat([boxes.reshape(-1, 4) for boxes in both]), format="XYXY",
                                         canvas_size=image.shape[-2:])
        seed = np.random.SeedSequence([self.seed, self.epoch, index]).generate_state(1)[0]
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(int(seed))
            image, boxes, kind = self.transform(tv_tensors.Image(image), boxes, kind)
        boxes = boxes.as_subclass(torch.Tensor)
        return {"image": image.as_subclass(torch.Tensor), "boxes": boxes[kind == 0], "ignore": boxes[kind == 1],
                "name": f"image {index}"}  # fmt: skip

    @staticmethod
    def collate(samples):
        """Images [B, 3, H, W], and lists of boxes, regions to ignore and names."""
        batch = {name: [sample[name] for sample in samples] for name in samples[0]}
        return batch | {"image": torch.stack(batch["image"])}
