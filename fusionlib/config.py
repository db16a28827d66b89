"""Profiles: the settings of a run, from quick to the paper's; a notebook's parameters cell overrides them."""

import ast
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal, get_args, get_origin, get_type_hints

from fusionlib.utils.errors import FusionError


@dataclass(frozen=True)
class Profile:
    """All settings of a run. The defaults are the paper's (section 4.2) or, if it gives none, ours (marked)."""

    name: str = "paper"
    seed: int = 0
    threads: int = 0  # CPU threads; 0: all cores. Results differ in the fifth digit between thread counts.
    amp: Literal["no", "bf16", "fp16"] = "no"
    optimizer: Literal["adam", "soap"] = "adam"  # of both stages (paper 4.2); or "soap" (ours)
    schedule: Literal["constant", "cosine", "one-cycle"] = "constant"  # of the learning rate; the others end at zero
    freeze_bn_fraction: float = 0.0  # share of a training, at its end, in which BatchNorm keeps its statistics (ours)
    nan_retries: int = 0  # times that a training which has become NaN begins its epoch again, at half the rate (ours)
    gradient_accumulation_steps: int = 1  # parts that a batch is taken in, where memory is short (ours)
    workers: int = 4  # processes that read images
    trackers: tuple[str, ...] = ("tensorboard",)  # of trainings: tensorboard, wandb, mlflow, ...; empty: none
    # data; for the numbers of pairs of real data sets see fusionlib/data/rules.json
    scenes_train: int = 0  # embedded scenes to render; 0: real data are needed
    scenes_test: int = 0
    fusion_datasets: tuple[str, ...] = ("LLVIP",)  # for stage 1 (paper 4.1); empty: all with a training part
    detection_datasets: tuple[str, ...] = ("LLVIP",)  # labelled, for Text-DFH (paper 4.1); empty: all that have labels
    validation: int = 100  # training pairs set aside: their loss is recorded, and chooses the epoch of stage 2 (ours)
    # stage 1
    channels: tuple[int, int, int] = (4, 8, 8)  # ours
    fusion_block: int = 1  # side of the blocks of pixels that the network works on (ours)
    fusion_merge: Literal["concatenate", "max-min"] = "concatenate"  # the features of both images; or "max-min" (ours)
    fusion_norm: Literal["batch", "none"] = "batch"  # of the feature layers; or "none" (ours)
    fusion_output: Literal["tanh", "clip"] = "tanh"  # of the network; or "clip" (ours)
    fusion_loss: Literal["paper", "multiscale"] = "paper"  # or "multiscale" (ours)
    #: Of new layers, so that no image turns negative; "maximum" or "random" (ours).
    fusion_init: Literal["identity", "maximum", "random"] = "identity"
    fusion_resize: int = 512  # longer side that training images are reduced to (ours)
    fusion_crop: int = 256  # ours
    crops_per_image: int = 1  # of each pair in an epoch (ours)
    exposure_augmentation: float = 0.0  # fraction of crops whose two images get a random exposure (ours)
    fusion_own_size: float = 0.0  # fraction of crops that are taken before the image is reduced (ours)
    fusion_flat: float = 0.0  # fraction of crops that are replaced by two gray levels (ours)
    fusion_balanced: bool = False  # as many crops of each data set in an epoch (ours)
    fusion_batch: int = 16
    fusion_epochs: int = 100
    fusion_lr: float = 1e-3  # the exponent is missing in the paper
    # feedback
    backend: Literal["llava", "server", "rules", "fixed", "none", "shuffled"] = "llava"
    views: Literal["fused", "all"] = "fused"  # that it is shown; "all": with the infrared and visible image (ours)
    backend_options: str = ""  # of the back end, such as "model=llava-hf/llava-onevision-qwen2-0.5b-ov-hf"
    # stage 2
    detector: str = "yolov5n.pt"  # a path, or a name that Run.weights looks for
    detect_size: tuple[int, int] = (512, 640)  # height, width of the detector's input (ours: half of 1280x1024)
    #: Of Text-DFH: `models.VARIANTS`; "wide" and its control "blind" are ours.
    variant: Literal["full", "no_dfh", "ca1", "ca2", "wide", "blind"] = "full"
    fidelity: float = 0.0  # weight of L_f of the refined image (ours if it is not 0, see notebook 04)
    instruction_steps: int = 0  # on crops with instructions, after the training with the detector (ours)
    instruction_answer_fraction: float = 0.4  # fraction of crops with an answer as text, which stay unchanged (ours)
    instruction_crop: int = 96  # (ours)
    instruction_batch: int = 6  # (ours)
    instruction_lr: float = 1e-3  # (ours)
    restoration_fraction: float = 0.0  # of these crops: damaged ones with words about their damages (ours)
    restoration_pairs: int = 1500  # damaged copies of training pairs to take them from (ours)
    restoration_reads: Literal["words", "numbers"] = "words"  # or "numbers", a control (ours)
    restoration_detection: float = 0.0  # weight of the detector's loss on those of labelled pairs (ours)
    dfh_crops: float = 0.5  # fraction of samples that are crops at .5 to 1.5 times the pair's own size (ours)
    dfh_other_classes: bool = True  # whether other objects that the detector sees count as background
    dfh_batch: int = 16
    dfh_epochs: int = 200
    dfh_lr: float = 1e-3
    # comparisons
    methods: tuple[str, ...] = (
        "mean", "maximum", "laplacian", "laplacian-max",  # ours; then the paper's eight
        "AUIF", "DATFuse", "IVFWSR", "LRRNet", "MLFusion", "TIMFusion", "SwinFusion", "TextIF",
    )
    #: Those with a recipe, by which they are trained if there are no official weights (ours).
    train_peers: tuple[str, ...] = ("AUIF", "DATFuse", "LRRNet", "MLFusion", "SwinFusion", "TextIF")
    detector_epochs: int = 50  # of the detectors retrained on fused images (ours)
    detector_lr: float = 3e-4  # ours
    detector_pairs: int = 0  # labelled training pairs, evenly spaced; 0: all
    held_out_detector: str = ""  # weights of a detector used in no loss, a path or name; empty: none
    # ablations, all with the same budget
    ablation_epochs: int = 200
    ablation_pairs: int = 0  # labelled training pairs; 0: all
    ablation_test: int = 0  # labelled test pairs; 0: all
    ablation_seeds: int = 3
    # medical images
    medical_slices: int = 20  # of a volume (ours)
    medical_epochs: int = 100  # of stage 1
    medical_batch: int = 16  # of stage 1
    medical_crop: int = 256  # of stage 1 (ours)
    medical_dfh_epochs: int = 20  # of stage 2, whose loss is stage 1's (ours)
    medical_dfh_lr: float = 1e-3

    def part(self, *prefixes: str) -> dict:
        """The settings whose names begin with one of the prefixes, such as all that a stage depends on.

        Raises:
            FusionError: a prefix of no setting, which would drop a dependence in silence.
        """
        if unused := [prefix for prefix in prefixes if not any(f.name.startswith(prefix) for f in fields(self))]:
            raise FusionError(f"no setting begins with {', '.join(unused)}: name those that the stage depends on")
        return {k: v for k, v in asdict(self).items() if k.startswith(prefixes)}


#: The suite's own stage 1 and optimiser, in place of the paper's, which the defaults of `Profile` are.
OUR_FUSION = {
    "channels": (16, 32, 32), "fusion_block": 2, "fusion_merge": "max-min", "fusion_norm": "none",
    "fusion_output": "clip", "fusion_init": "maximum", "fusion_loss": "multiscale", "fusion_flat": 0.1,
    "exposure_augmentation": 0.6, "fusion_lr": 3e-3, "optimizer": "soap",
}
PROFILES = {
    "quick": Profile(
        name="quick", **OUR_FUSION, threads=2, workers=0, schedule="cosine", freeze_bn_fraction=1.0,
        scenes_train=56, scenes_test=24, fusion_datasets=(), detection_datasets=("Scenes",), validation=8,
        backend="rules", views="all", fusion_resize=320, fusion_crop=128, crops_per_image=2, fusion_batch=8,
        fusion_epochs=20, detector="scene_detector.safetensors", detect_size=(256, 320), dfh_crops=0.0, dfh_batch=4,
        dfh_epochs=3, dfh_lr=1e-3, fidelity=1.0, train_peers=(), detector_epochs=3, detector_pairs=12,
        ablation_epochs=1, ablation_pairs=8, ablation_test=8, ablation_seeds=1,
        medical_slices=4, medical_epochs=50, medical_batch=2, medical_crop=64, medical_dfh_epochs=8,
        medical_dfh_lr=3e-4,
    ),
    "small": Profile(
        name="small", **OUR_FUSION, threads=2, workers=0, schedule="cosine", freeze_bn_fraction=1.0, fusion_datasets=(),
        detection_datasets=(), validation=6, backend="rules", views="all", fusion_balanced=True, fusion_resize=640,
        fusion_own_size=0.5, fusion_crop=64, crops_per_image=4, fusion_batch=8, fusion_epochs=60,
        # With a fidelity of 0.3 the detectors gain 0.005 to 0.008 in AP, at the cost of an eighth of Q_AB/F
        # (cross-validation over training scenes, docs/profiles.md).
        fidelity=1.0, dfh_crops=0.5, dfh_other_classes=False, detect_size=(256, 320), dfh_batch=2, dfh_epochs=16,
        dfh_lr=1e-3, train_peers=(),
        detector_epochs=8, detector_pairs=16, ablation_epochs=6, ablation_pairs=24, ablation_seeds=3, medical_slices=8,
        medical_epochs=40, medical_batch=2, medical_crop=128, medical_dfh_epochs=6, medical_dfh_lr=3e-4,
    ),
    "paper": Profile(),
}
# The weights in the package: `make weights`. For the settings chosen by experiment see fusionlib/weights/README.md.
PROFILES["shipped"] = replace(
    PROFILES["small"], name="shipped", threads=1, fusion_epochs=140, variant="wide", dfh_epochs=6, dfh_crops=0.0,
    dfh_other_classes=True, instruction_steps=6000, instruction_lr=3e-3, instruction_batch=8, restoration_fraction=0.8,
    restoration_detection=0.1,
)


#: Endings of the settings that must be 1 or more; other numbers may be 0.
ONE_OR_MORE = ("epochs", "batch", "crop", "resize", "_block", "_seeds", "_slices", "_per_image", "_accumulation_steps",
               "dim")  # fmt: skip
#: Endings of the settings that have a largest value below 2^31.
MOST = {"_fraction": 1, "fusion_own_size": 1, "fusion_flat": 1, "exposure_augmentation": 1, "threads": 1024,
        "workers": 1024, "concurrency": 1024, "retries": 100, "dim": 1 << 16, "crop": 1 << 14,
        "resize": 1 << 14}  # fmt: skip


def profile(name: str = "quick", /, **settings) -> Profile:
    """The named profile with some settings replaced; None keeps the profile's value.

    Raises:
        FusionError: unknown profile or setting, or a value that it cannot have.
    """
    if name not in PROFILES:
        raise FusionError(f"profile must be one of {', '.join(PROFILES)}, but is {name!r}")
    kinds = {key: kind for key, kind in get_type_hints(Profile).items() if key != "name"}
    if unknown := [key for key in settings if key not in kinds]:
        raise FusionError(f"no setting is called {unknown[0]!r}; choose one of {', '.join(kinds)}")
    changed = {key: checked(key, value, kinds[key]) for key, value in settings.items() if value is not None}
    parse_settings(changed.get("backend_options", "").split())
    return replace(PROFILES[name], **changed)


def checked(name: str, value, kind, least: float | None = None):
    """The value of a setting, of a profile, a back end or a recipe, as its type.

    Args:
        name: of the setting.
        value: as the command line, papermill or Python gives it.
        kind: int, float, bool, str, a Literal, or a tuple of int or str.
        least: the least number; None: 1 or 0 by `ONE_OR_MORE`.

    Raises:
        FusionError: a value of another type, out of range or not finite.
    """
    found = repr(value) if len(repr(value)) <= 100 else f"{value!r:.100}..."
    if get_origin(kind) is tuple:
        return _items(name, value, kind, found)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise FusionError(f"{name} must be one of {', '.join(get_args(kind))}, but is {found}")
        return value
    try:
        if isinstance(value, bool) != (kind is bool) or not isinstance(value, bool | int | float | str):
            raise TypeError
        result = kind(value)
    except (TypeError, ValueError, OverflowError):
        raise FusionError(f"{name} must be of type {kind.__name__}, but is {found}") from None
    if kind is int and isinstance(value, float) and result != value:
        raise FusionError(f"{name} must be a whole number, but is {found}")
    if kind in (int, float):
        least = int(name.endswith(ONE_OR_MORE)) if least is None else least
        most = next((most for ending, most in MOST.items() if name.endswith(ending)), 2**31 - 1)
        if not least <= result < math.inf:  # false for NaN too
            raise FusionError(f"{name} must be at least {least:g} and finite, but is {found}")
        if result > most:
            raise FusionError(f"{name} must be at most {most}, but is {found}")
    return result


def _items(name, value, kind, found) -> tuple:
    """The items of a list setting, which may be written as "8,16,16", "[8, 16, 16]" or "mean, laplacian"."""
    kind, *others = get_args(kind)
    count = None if others == [Ellipsis] else 1 + len(others)
    items = value
    if isinstance(value, str):
        items = [item.strip().strip("'\"") for item in value.strip(" []()").split(",") if item.strip()]
        items = [int(item) if kind is int and item.isdecimal() and len(item) < 9 else item for item in items]
    items = tuple(items) if isinstance(items, list | tuple) else (items,)
    if not all(type(item) is kind for item in items) or count not in (None, len(items)):
        wanted = f"{count} whole numbers, such as 8,16,32" if kind is int else "names, such as mean,laplacian"
        raise FusionError(f"{name} must be a list of {wanted}, but is {found}")
    if kind is int and not all(0 < item <= 1 << 14 for item in items):
        raise FusionError(f"{name} must be numbers from 1 to {1 << 14}, but is {found}")
    if name == "detect_size" and any(side % 32 for side in items):
        raise FusionError(f"{name} must be multiples of 32, the detector's stride, but is {found}")
    return items


def overrides(namespace: Mapping) -> dict:
    """The settings among a notebook's variables, as set by its parameters cell or papermill."""
    return {f.name: value for f in fields(Profile)[1:] if (value := namespace.get(f.name)) is not None}


def parse_settings(pairs: Sequence[str]) -> dict:
    """Parse `key=value` strings into numbers, booleans, strings and lists (tuples too, since papermill needs lists).

    `~` at the beginning of a value is the home folder.
    """
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise FusionError(f"a setting is written as key=value, but this is {pair[:100]!r}")
        try:
            settings[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two: nested too deeply
            settings[key] = os.path.expanduser(value)
        if isinstance(settings[key], tuple):
            settings[key] = list(settings[key])
    return settings
