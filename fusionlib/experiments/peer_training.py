"""Training of the compared methods on the user's pairs, by their own recipes, with the suite's trainer."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn

import fusionlib
from fusionlib import peers
from fusionlib.config import checked
from fusionlib.data.datasets import FusionDataset
from fusionlib.data.layouts import read
from fusionlib.data.splits import Parts, choose, parts
from fusionlib.experiments.run import Run, fingerprint_pairs, open_run
from fusionlib.peers.losses import VGG16, Terms
from fusionlib.peers.objectives import Sentence
from fusionlib.peers.peer import Peer
from fusionlib.peers.recipes import ARCHITECTURE_ONLY, RECIPES, Recipe, architecture_only
from fusionlib.training.trainer import fit
from fusionlib.utils.errors import FusionError, print_problems
from fusionlib.utils.files import absolute, file_fingerprint, write_atomically
from fusionlib.utils.tensors import serialise

BUDGET = ("epochs", "steps")  # total of all phases
TUNABLE = ("batch", "crop", "crops", "resize", "learning_rate", "weight_decay", "clip")  # of the recipe, for each phase
SETTINGS = ("seed", "threads", "amp", "workers", "validation")  # of the suite's profile
NEEDS = {"vgg": "torchvision's state dict of vgg16 (download.pytorch.org/models/vgg16-397923af.pth)",
         "text": "CLIP's vector [1,512] of the plain prompt in a file, or the folder of CLIP ViT-B/32"}
HELPERS = {"vgg": VGG16, "text": Sentence}


def train_peer(name: str, data_root: str | Path = "", out: str | Path | None = None, *, ir=None, visible=None,
               vgg: str | Path | None = None, text: str | Path | None = None, **settings) -> Path:
    """Train a compared method by its recipe on the training parts of data sets; resumes an interrupted training.

    Args:
        name: one of `RECIPES`, in any case.
        data_root: folder of a data set, or of data sets' folders.
        ir, visible: two folders or patterns in its stead, see `data.layouts.pair_folders`.
        out: file of the weights; data/runs/peers/<name>.safetensors by default. A folder beside it with the file's stem
            receives for each phase curves.csv, the best weights and the state to resume from.
        vgg, text: the files of `NEEDS`, where the recipe needs one.
        settings: TUNABLE ones of the recipe, SETTINGS of the suite, and one of BUDGET instead of the recipe's epochs.

    Returns the file of the weights after the last step, which `peers.build(name, weights=file)` loads.

    Raises:
        FusionError: unknown name or setting, a missing file, or data without pairs to train and to validate on.
    """
    name = {spelling.lower(): spelling for spelling in (*RECIPES, *ARCHITECTURE_ONLY)}.get(name.lower(), name)
    if name in ARCHITECTURE_ONLY:
        raise FusionError(architecture_only(name))
    if name not in RECIPES:
        raise FusionError(f"there is no recipe to train {name!r}: choose among {', '.join(RECIPES)}")
    out = Path(out or fusionlib.ROOT / "data" / "runs" / "peers" / f"{name}.safetensors").expanduser()
    if out.suffix != ".safetensors":
        raise FusionError(f"{out}: expected the name of a file that ends in .safetensors, found "
                          f"{out.suffix or 'no ending'}; rename it")
    phases = plan(name, settings)
    overrides = {key: value for key, value in settings.items() if key in SETTINGS}
    run = open_run("small", str(data_root), str(out.parent), **overrides)
    ir, visible = (place and str(absolute(place)) for place in (ir, visible))  # as the root is, below which they lie
    report = read(run.data_root if data_root or not (ir or visible) else None, ir=ir, visible=visible)
    print_problems("not used", [str(problem) for problem in report.problems])
    split = parts(choose(report.pairs), run.profile)
    train_on(replace(run, pairs_root=report.root), out.stem, name, phases, split,
             {"vgg": vgg, "text": text}.get(phases[-1].needs))
    return out


def train_on(run: Run, place: str, name: str, phases: list[Recipe], split: Parts,
             file: str | Path | None = None) -> Path:
    """Train a compared method as a stage of a run, on the pairs of its stage 1; resumes an interrupted training.

    Args:
        place: name of the stage; the weights after the last step are written to <place>.safetensors beside its folder.
        name: one of `RECIPES`.
        phases: from `plan`.
        split: the pairs of the run.
        file: from the user, where the recipe needs one.

    Raises:
        FusionError: no pairs to train or to validate on, or the user's file is missing.
    """
    train, validation = split.fusion_train, split.fusion_validation
    if not train or not validation:
        raise FusionError(f"{run.root}: expected pairs to train and to validate on, found {len(train)} and "
                          f"{len(validation)}; data/README.md says which data sets have a train part")
    set_seed(run.profile.seed)  # so that the initial weights do not depend on what ran before
    objective = Objective(peers.build(name), helper(name, file))
    plain = [{k: v for k, v in vars(r).items() if isinstance(v, int | float | str | tuple | dict)} for r in phases]
    stage = run.stage(
        place, fit, Recipe, type(objective.peer), peer=name, phases=plain, amp=run.profile.amp,
        pairs=[fingerprint_pairs(pairs, run.root) for pairs in (train, validation)],
        file=file_fingerprint(file) if file and Path(file).is_file() else str(file),
    )
    save_peer = partial(save, metadata={"peer": type(objective.peer).__name__, "recipe": json.dumps(plain)})
    folders = [stage.folder / f"phase-{number}" for number in range(1, len(phases) + 1)]
    out = run.folder / f"{place}.safetensors"
    with stage.alone():
        if not stage.finished:
            for folder, recipe in zip(folders, phases):
                print(f"{name}, {folder.name.replace('-', ' ')} of {len(phases)}: {recipe.note}")
                set_seed(run.profile.seed)
                size = {"resize": recipe.resize, "crop": recipe.crop, "seed": run.profile.seed}
                fit(
                    objective, lambda model, batch: model(batch), FusionDataset(train, **size, crops=recipe.crops),
                    FusionDataset(validation, **size, train=False), folder, run.profile,
                    optimizer=objective.begin(recipe), epochs=recipe.epochs, steps=recipe.steps or None,
                    batch=recipe.batch, schedule=recipe.schedule, clip=recipe.clip, save=save_peer,
                )
            stage.finish(weights=out.name)
    write_atomically(out, (folders[-1] / "last.safetensors").read_bytes())
    return out


def plan(name: str, settings: dict) -> list[Recipe]:
    """The phases of a recipe with settings replaced; BUDGET is divided among them in proportion to their epochs.

    Raises FusionError for an unknown setting or an invalid value.
    """
    names = (*TUNABLE, *SETTINGS, *BUDGET)
    if wrong := [key for key in settings if key not in names]:
        raise FusionError(f"no setting of a training is called {wrong[0]!r}; there are {', '.join(names)}")
    last, multiple = RECIPES[name], peers.PEERS[name].multiple
    changed = {key: value for key, value in settings.items() if key not in SETTINGS}
    for key, value in changed.items():
        kind, least = (float, 0) if isinstance(getattr(last, key), float) else (int, 1)
        changed[key] = checked(key, value, kind, least)
    if changed.get("crop", 0) % multiple:
        raise FusionError(f"{name} takes sides in multiples of {multiple}: crop must be one, but is {changed['crop']}")
    phases = [last.first, last] if last.first else [last]
    whole, budget = sum(phase.epochs for phase in phases), {key: changed.pop(key) for key in BUDGET if key in changed}
    shares = [{key: max(1, round(n * phase.epochs / whole)) for key, n in budget.items()} for phase in phases]
    return [replace(phase, **changed, **share) for phase, share in zip(phases, shares)]


def helper(name: str, file: str | Path | None) -> nn.Module | None:
    """The network that a peer's loss needs, from the user's file; FusionError says which file is missing."""
    needs = RECIPES[name].needs
    if needs and not file:
        raise FusionError(f"the loss of {name} needs {NEEDS[needs]}: give it by --{needs}")
    return HELPERS[needs](file) if needs else None


class Objective(nn.Module):
    """A peer, its helper network and the loss of the current phase: one module, whose forward pass accelerate wraps."""

    def __init__(self, peer: Peer, helper: nn.Module | None = None):
        super().__init__()
        self.peer, self.helper, self.loss = peer, helper, None

    def begin(self, recipe: Recipe) -> torch.optim.Optimizer:
        """Set the loss of a phase, freeze the parameters that it does not train, and return its optimiser."""
        self.loss, groups = recipe.loss, {}
        for name, parameter in self.peer.named_parameters():
            trained = name.startswith(recipe.trains) and not any(idle in name for idle in recipe.idle)
            parameter.requires_grad_(trained)
            if trained:
                factor = next((factor for prefix, factor in recipe.rates.items() if name.startswith(prefix)), 1.0)
                groups.setdefault(factor * recipe.learning_rate, []).append(parameter)
        groups = [{"params": parameters, "lr": rate} for rate, parameters in groups.items()]
        return recipe.optimizer(groups, weight_decay=recipe.weight_decay)

    def forward(self, batch: dict[str, Tensor]) -> Terms:
        """The total loss of a batch, and its terms."""
        return self.loss(self.peer, batch, self.helper)


def save(objective: Objective, path: Path, metadata: dict[str, str]) -> None:
    """Write the weights of the peer without the helper, with its recipe in the header."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in objective.peer.state_dict().items()}
    write_atomically(path, serialise(tensors, metadata))
