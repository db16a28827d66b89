"""Training of a YOLOv5 for pedestrians with the classic loss, and of the small detector that ships with the suite."""

from pathlib import Path

import pandas as pd
import torch
from accelerate.utils import set_seed
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from tqdm.auto import tqdm

import fusionlib
from fusionlib.data.synthetic.dataset import SceneImages
from fusionlib.detection.checkpoints import load_yolov5, save_yolov5
from fusionlib.detection.detectors import detect
from fusionlib.detection.precision_recall import average_precision
from fusionlib.detection.yolov5 import YOLOv5
from fusionlib.detection.yolov5_loss import YOLOv5Loss, to_targets
from fusionlib.utils import distributed
from fusionlib.utils.distributed import replicas
from fusionlib.utils.errors import FusionError, first_line

#: The small detector of the quick profile, trained by train_scene_detector on embedded scenes.
SCENE_DETECTOR = Path(fusionlib.__file__).parent / "weights" / "scene_detector.safetensors"


def train_detector(model: YOLOv5, dataset: Dataset, out: str | Path, *, validation: Dataset | None = None,
                   epochs: int = 30, batch_size: int = 8, learning_rate: float = 4e-3, weight_decay: float = 5e-4,
                   ema_decay: float = 0.998, augment: bool = True, hyp: dict | None = None, bf16: bool = False,
                   seed: int = 0, workers: int = 0, progress: bool = True) -> YOLOv5:
    """Train a detector; class 0 is the person.

    AdamW under a one-cycle schedule (warm-up over the first tenth, then cosine), an exponential average of the weights,
    which is what is measured, kept and returned. Each epoch draws its random numbers from the seed and its own number,
    so a run that was interrupted goes on from its last finished epoch as if nothing had happened. Writes to `out`:
    `last.safetensors`, `best.safetensors` (by mAP@.5:.95, with `validation` only), `curves.csv` and `state.pt`.

    Args:
        model: network to start from, fresh or loaded; its weights are changed.
        dataset: yields image [3, H, W], RGB in 0..1, and boxes [N, 4], x1, y1, x2, y2 in pixels. All images have the
            same size, in multiples of 32.
        out: folder of the run.
        validation: as `dataset`, measured after every epoch.
        hyp: gains of the loss that differ from loss.HYP. The official scaling for small images (loss.scale_hyp) was
            left out, as it weakens the objectness: after the same short run on scenes mAP@.5 was .13 instead of .21.
        augment: flip, scale, shift, and change brightness, contrast and colours at random.
        bf16: mixed precision in bfloat16 (see bf16_supported).
        workers: processes that load the data.

    Raises:
        FusionError: the data set is empty, or `out` holds a run with other settings.
    """
    out = Path(out)
    if not len(dataset):
        raise FusionError(f"{out}: a detector needs training images, found none in the data set.")
    accelerator = distributed.make_accelerator("bf16" if bf16 else "no")
    loss = YOLOv5Loss(model.anchors, model.strides, model.num_classes, hyp)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]  # biases and BatchNorm
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": weight_decay},
                                   {"params": others, "weight_decay": 0.0}], lr=learning_rate)
    loader = DataLoader(_Augmented(dataset) if augment else dataset, batch_size, shuffle=True, collate_fn=_collate,
                        num_workers=workers)
    network, optimizer, loader = accelerator.prepare(model.to(memory_format=torch.channels_last), optimizer, loader)
    model = accelerator.unwrap_model(network, keep_torch_compile=False)
    loss = loss.to(accelerator.device)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer.optimizer, learning_rate, epochs * len(loader),
                                                    pct_start=0.1, cycle_momentum=False)
    average = AveragedModel(model, avg_fn=_moving_average(ema_decay), use_buffers=True)
    parts = {"model": model, "average": average, "optimizer": optimizer.optimizer, "scheduler": scheduler}

    settings = {"images": len(dataset), "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate,
                "weight_decay": weight_decay, "ema_decay": ema_decay, "augment": augment, "hyp": loss.hyp, "bf16": bf16,
                "seed": seed}
    curves = _resume(out, parts, settings) if (out / "state.pt").is_file() else []

    for epoch in range(len(curves), epochs):
        set_seed(seed + 1_000_003 * epoch, device_specific=True)
        network.train()
        sums = torch.zeros(4, device=accelerator.device)
        bar = tqdm(loader, desc=f"epoch {epoch + 1}/{epochs}", leave=False,
                   disable=not (progress and accelerator.is_main_process))
        for images, targets in bar:
            with accelerator.autocast():
                maps = network(images.contiguous(memory_format=torch.channels_last))
            total, terms = loss(maps, targets)
            accelerator.backward(total)
            accelerator.clip_grad_norm_(network.parameters(), 10.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            average.update_parameters(model)
            sums += torch.stack((total.detach() / (len(images) * replicas()), *terms.values()))
        means = (accelerator.reduce(sums, "mean") / len(loader)).tolist()
        row = {"epoch": epoch + 1, "learning_rate": scheduler.get_last_lr()[0],
               **dict(zip(("loss", "box", "obj", "cls"), means))}
        if accelerator.is_main_process:
            if validation is not None:
                row |= evaluate_detector(average.module, validation)
            curves.append(row)
            _write(out, parts, settings, curves)
        accelerator.wait_for_everyone()
    name = "last" if validation is None else "best"
    return load_yolov5(out / f"{name}.safetensors", accelerator.device)


def evaluate_detector(model: YOLOv5, dataset: Dataset) -> dict[str, float]:
    """average_precision of the detector's class 0 over a data set of (image [3, H, W], boxes [N, 4])."""
    pairs = [dataset[i] for i in range(len(dataset))]
    found = detect(model, (image for image, _ in pairs), classes=model.names[:1])
    return average_precision(found, [boxes for _, boxes in pairs])


def bf16_supported() -> bool:
    """Whether bfloat16 makes convolutions faster here: a recent CUDA GPU, or a CPU with AVX512-BF16."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported()


def train_scene_detector(out: str | Path | None = None, scenes: int = 600, epochs: int = 30, seed: int = 1000,
                         size: tuple[int, int] = (256, 320), bf16: bool | None = None) -> dict[str, float]:
    """Train the small detector of the quick profile on embedded scenes and write its weights, float16, about 1 MB.

    Like a detector that was trained before anything was fused, it sees visible and infrared images, each by itself,
    never a fused one. The scenes come from a seed of their own, which no notebook uses.

    Args:
        out: the file to write; SCENE_DETECTOR by default. The run's folder, from which it resumes, lies in data/runs.
        scenes: number of training scenes; a tenth more is rendered for validation.
        epochs: passes over the two images of each scene.
        seed: of the scenes and of the training.
        size: height and width in pixels.
        bf16: mixed precision; by default where it is faster.

    Returns:
        Validation measures of the written detector.
    """
    torch.manual_seed(seed)
    model = YOLOv5(1, depth=0.33, width=0.125, names=["person"])
    validation = SceneImages(max(scenes // 10, 1), seed, size, first=scenes)
    model = train_detector(model, SceneImages(scenes, seed, size), fusionlib.ROOT / "data" / "runs" / "scene_detector",
                           validation=validation, epochs=epochs, seed=seed,
                           bf16=bf16_supported() if bf16 is None else bf16)
    out = Path(out or SCENE_DETECTOR)
    save_yolov5(model, out, half=True)
    return evaluate_detector(load_yolov5(out), validation)


class _Augmented(Dataset):
    """Random geometry and colours for image and boxes together; boxes that leave the image are dropped."""

    def __init__(self, dataset):
        self.dataset = dataset
        self.transform = v2.Compose([
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(degrees=0, translate=(0.1, 0.1), scale=(0.6, 1.5), fill=0.45,
                            interpolation=v2.InterpolationMode.BILINEAR),
            v2.ColorJitter(brightness=0.4, contrast=0.3, saturation=0.5),
            v2.SanitizeBoundingBoxes(min_size=3, labels_getter=None),
        ])

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        image, boxes = self.dataset[index]
        boxes = tv_tensors.BoundingBoxes(boxes.reshape(-1, 4), format="XYXY", canvas_size=image.shape[-2:])
        image, boxes = self.transform(tv_tensors.Image(image), boxes)
        return image.as_subclass(torch.Tensor), boxes.as_subclass(torch.Tensor)


def _moving_average(decay):
    """Exponential average whose memory grows with the number of steps, so that a short run forgets its start too."""

    def average(old, new, steps):
        if not old.is_floating_point():
            return new
        return old.lerp(new, 1 - min(decay, (1 + int(steps)) / (10 + int(steps))))

    return average


def _collate(items):
    images = torch.stack([image for image, _ in items])
    return images, to_targets([boxes for _, boxes in items], images.shape[-2:])


def _write(out, parts, settings, curves):
    out.mkdir(parents=True, exist_ok=True)
    average = parts["average"].module
    save_yolov5(average, out / "last.safetensors")
    scores = [row.get("mAP@.5:.95") for row in curves]
    if scores[-1] is not None and scores[-1] >= max(scores):
        save_yolov5(average, out / "best.safetensors")
    pd.DataFrame(curves).to_csv(out / "curves.csv", index=False)
    state = {name: part.state_dict() for name, part in parts.items()}
    unfinished = out / "state.tmp"
    torch.save({"settings": settings, "curves": curves, **state}, unfinished)
    unfinished.replace(out / "state.pt")  # all or nothing, should the run be killed right now


def _resume(out, parts, settings):
    """Load the state after the last finished epoch; returns its curves."""
    try:
        state = torch.load(out / "state.pt", map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader has no exception of its own for a damaged file
        raise FusionError(f"{out / 'state.pt'}: expected the state of this training to go on from, found a damaged "
                          f"file ({first_line(error)}): delete it to begin anew") from error
    changed = [key for key, value in settings.items() if state["settings"].get(key) != value]
    if changed:
        raise FusionError(f"{out}: holds a run with other settings ({', '.join(changed)}): delete the folder to start "
                          "afresh, or choose another one.")
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state["curves"]
