"""Profiles: the settings of a run, from quick to the paper's; a notebook's parameters cell overrides them."""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace

from fusionlib.utils.errors import FusionError


@dataclass(frozen=True)
class Profile:
    """All settings of a run. The defaults are the paper's (section 4.2) or, if it gives none, ours (marked)."""

    name: str = "paper"
    seed: int = 0
    threads: int = 0  # CPU threads; 0: all cores. Results differ in the fifth digit between thread counts.
    amp: str = "no"  # "no", "bf16" or "fp16"
    schedule: str = "constant"  # of the learning rate: "constant", or "cosine" to zero, "one-cycle" (short trainings)
    freeze_bn_fraction: float = 0.0  # share of a training, at its end, in which BatchNorm keeps its statistics (ours)
    nan_retries: int = 0  # times that a training which has become NaN begins its epoch again, at half the rate (ours)
    gradient_accumulation_steps: int = 1  # parts that a batch is taken in, where memory is short (ours)
    workers: int = 4  # processes that read images
    # data; for the numbers of pairs of real data sets see data/splits/rules.json
    scenes_train: int = 0  # embedded scenes to render; 0: real data are needed
    scenes_test: int = 0
    fusion_datasets: tuple[str, ...] = ("LLVIP",)  # for stage 1 (paper 4.1); empty: all with a training part
    detection_datasets: tuple[str, ...] = ("LLVIP",)  # labelled, for Text-DFH (paper 4.1); empty: all that have labels
    validation: int = 100  # training pairs set aside to choose the best epoch (ours)
    # stage 1
    channels: tuple[int, int, int] = (4, 8, 8)  # ours
    fusion_block: int = 1  # side of the blocks of pixels that the network works on (ours)
    fusion_merge: str = "concatenate"  # the features of both images; or "max-min" (ours)
    fusion_norm: str = "batch"  # of the feature layers; or "none" (ours)
    fusion_output: str = "tanh"  # of the network; or "clip" (ours)
    fusion_loss: str = "paper"  # or "multiscale" (ours)
    fusion_init: str = "identity"  # of new layers, so that no image turns negative; "maximum" or "random" (ours)
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
    backend: str = "llava"
    views: str = "fused"  # that it is shown: "fused", or "all", with the infrared and visible image (ours)
    backend_options: str = ""  # of the back end, such as "model=llava-hf/llava-onevision-qwen2-0.5b-ov-hf"
    # stage 2
    detector: str = "yolov5n.pt"  # a path, or a name that Run.weights looks for
    detect_size: tuple[int, int] = (512, 640)  # height, width of the detector's input (ours: half of 1280x1024)
    variant: str = "full"  # of Text-DFH: one of `models.VARIANTS`; "wide" and its control "blind" are ours
    fidelity: float = 0.0  # weight of L_f of the refined image (ours if it is not 0, see notebook 04)
    instruction_steps: int = 0  # on crops with instructions, after the training with the detector (ours)
    instruction_answer_fraction: float = 0.4  # fraction of crops with an answer as text, which stay unchanged (ours)
    instruction_crop: int = 96  # (ours)
    instruction_batch: int = 6  # (ours)
    instruction_lr: float = 1e-3  # (ours)
    restoration_fraction: float = 0.0  # of these crops: damaged ones with words about their damages (ours)
    restoration_pairs: int = 1500  # damaged copies of training pairs to take them from (ours)
    restoration_reads: str = "words"  # or "numbers", a control (ours)
    restoration_detection: float = 0.0  # weight of the detector's loss on those of labelled pairs (ours)
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


#: The suite's own stage 1, in place of the paper's, which the defaults of `Profile` are.
OUR_FUSION = {
    "channels": (16, 32, 32), "fusion_block": 2, "fusion_merge": "max-min", "fusion_norm": "none",
    "fusion_output": "clip", "fusion_init": "maximum", "fusion_loss": "multiscale", "fusion_flat": 0.1,
    "exposure_augmentation": 0.6,
}
PROFILES = {
    "quick": Profile(
        name="quick", **OUR_FUSION, threads=2, workers=0, schedule="cosine", freeze_bn_fraction=1.0,
        scenes_train=56, scenes_test=24, fusion_datasets=(), detection_datasets=("Scenes",), validation=8,
        backend="rules", views="all", fusion_resize=320, fusion_crop=128, crops_per_image=2, fusion_batch=8,
        fusion_epochs=20, fusion_lr=2e-3,
        detector="scene_detector.safetensors", detect_size=(256, 320), dfh_batch=4, dfh_epochs=3, dfh_lr=1e-3,
        fidelity=1.0, train_peers=(), detector_epochs=3, detector_pairs=12,
        ablation_epochs=1, ablation_pairs=8, ablation_test=8, ablation_seeds=1,
        medical_slices=4, medical_epochs=50, medical_batch=2, medical_crop=64, medical_dfh_epochs=4,
        medical_dfh_lr=3e-4,
    ),
    "small": Profile(
        name="small", **OUR_FUSION, threads=2, workers=0, schedule="cosine", freeze_bn_fraction=1.0, fusion_datasets=(),
        detection_datasets=(), validation=6, backend="rules", views="all", fusion_balanced=True, fusion_resize=640,
        fusion_own_size=0.5, fusion_crop=64, crops_per_image=4, fusion_batch=8, fusion_epochs=100, fusion_lr=1e-3,
        fidelity=1.0, detect_size=(256, 320), dfh_batch=2, dfh_epochs=16, dfh_lr=1e-3, train_peers=(),
        detector_epochs=8, detector_pairs=16, ablation_epochs=6, ablation_pairs=24, ablation_seeds=3, medical_slices=8,
        medical_epochs=40, medical_batch=2, medical_crop=128, medical_dfh_epochs=6, medical_dfh_lr=3e-4,
    ),
    "paper": Profile(),
}
# The weights in the package: `make weights`. For the settings chosen by experiment see fusionlib/weights/README.md.
PROFILES["shipped"] = replace(
    PROFILES["small"], name="shipped", threads=1, fusion_epochs=220, variant="wide", dfh_epochs=6,
    instruction_steps=6000, instruction_batch=8, restoration_fraction=0.8, restoration_detection=0.1,
)


def profile(name: str = "quick", **settings) -> Profile:
    """The named profile with some settings replaced; None keeps the profile's value.

    Raises:
        FusionError: unknown profile or setting, or a value of another type.
    """
    if name not in PROFILES:
        raise FusionError(f"profile must be one of {', '.join(PROFILES)}, but is {name!r}")
    base = PROFILES[name]
    defaults = asdict(base)
    changed = {}
    for key, value in settings.items():
        if key not in defaults:
            raise FusionError(f"no setting is called {key!r}; choose one of {', '.join([*defaults][1:])}")
        if value is None:
            continue
        kind = type(defaults[key])
        if kind is tuple and isinstance(value, str):
            value = (value,) if value else ()
        try:
            changed[key] = tuple(value) if kind is tuple else kind(value)
        except (TypeError, ValueError):
            raise FusionError(f"{key} must be of type {kind.__name__}, but is {value!r}") from None
        if isinstance(value, float) and changed[key] != value:
            raise FusionError(f"{key} must be a whole number, but is {value!r}")
    return replace(base, **changed)


def overrides(namespace: Mapping) -> dict:
    """The settings among a notebook's variables, as set by its parameters cell or papermill."""
    return {f.name: value for f in fields(Profile)[1:] if (value := namespace.get(f.name)) is not None}


def parse_settings(pairs: Sequence[str]) -> dict:
    """Parse `key=value` strings into numbers, booleans, strings and lists (tuples too, since papermill needs lists)."""
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise FusionError(f"a setting is written as key=value, but this is {pair!r}")
        try:
            settings[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            settings[key] = value
        if isinstance(settings[key], tuple):
            settings[key] = list(settings[key])
    return settings
