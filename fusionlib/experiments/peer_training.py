"""Training of the compared methods on the user's pairs, by their own recipes, under the suite's loop."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from accelerate.utils import set_seed
from safetensors.torch import save as serialise
from torch import Tensor, nn

import fusionlib
from fusionlib import peers
from fusionlib.data.datasets import FusionDataset
from fusionlib.data.layouts import read
from fusionlib.data.splits import Parts, choose, parts
from fusionlib.experiments.run import Run, listing, open_run
from fusionlib.peers.losses import VGG16, Terms
from fusionlib.peers.objectives import Sentence
from fusionlib.peers.peer import Peer
from fusionlib.peers.recipes import ARCHITECTURE_ONLY, RECIPES, Recipe, architecture_only
from fusionlib.training.trainer import fit
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import file_fingerprint, write_atomically

BUDGET = ("epochs", "steps")  # passes over the training pairs, or steps of the optimiser, of all phases together
TUNABLE = ("batch", "crop", "crops", "resize", "learning_rate", "weight_decay", "clip")  # of the recipe, in each phase
SETTINGS = ("seed", "threads", "amp", "workers", "validation")  # of the suite's profile
NEEDS = {
    "vgg": "torchvision's state dict of vgg16 (download.pytorch.org/models/vgg16-397923af.pth)",
    "text": "CLIP's vector [1,512] of the plain prompt in a file, or the folder of CLIP ViT-B/32",
}
HELPERS = {"vgg": VGG16, "text": Sentence}


def train_peer(
    name: str, data_root: str | Path, out: str | Path | None = None, *, vgg: str | Path | None = None,
    text: str | Path | None = None, **settings,
) -> Path:  # fmt: skip
    """Train a compared method by its recipe on the training parts of data sets; resumes what was interrupted.

    Args:
        name: one of `RECIPES`, in any case.
        data_root: folder that holds data sets' folders, or is one.
        out: file of the weights; data/runs/peers/<name>.safetensors by default. A folder beside it, called as the file
            without its suffix, receives for each phase curves.csv, the best weights and the state to resume from.
        vgg: torchvision's state dict of vgg16, where the recipe needs it.
        text: a file with CLIP's vector [1,512] of the plain prompt, or the folder of CLIP, where the recipe needs it.
        settings: TUNABLE ones of the recipe, SETTINGS of the suite, and one of BUDGET instead of the recipe's epochs.

    Returns:
        The file: the weights after the last step, which `peers.build(name, weights=file)` loads.

    Raises:
        FusionError: unknown name or setting, a missing file, or data without pairs to train and to validate on.
    """
    name = {known.lower(): known for known in (*RECIPES, *ARCHITECTURE_ONLY)}.get(name.lower(), name)
    if name in ARCHITECTURE_ONLY:
        raise FusionError(architecture_only(name))
    if name not in RECIPES:
        raise FusionError(f"there is no recipe to train {name!r}: choose among {', '.join(RECIPES)}")
    out = Path(out or fusionlib.ROOT / "data" / "runs" / "peers" / f"{name}.safetensors")
    if out.suffix != ".safetensors":
        raise FusionError(f"{out}: expected the name of a file that ends in .safetensors, found another one")
    phases = plan(name, settings)
    own = {key: value for key, value in settings.items() if key in SETTINGS}
    run = open_run("small", str(data_root), str(out.parent), **own)
    split = parts(choose(read(run.data_root).pairs), run.profile)
    train_on(run, out.stem, name, phases, split, {"vgg": vgg, "text": text}.get(phases[-1].needs))
    return out


def train_on(
    run: Run, place: str, name: str, phases: list[Recipe], split: Parts, file: str | Path | None = None
) -> Path:
    """Train a compared method as a stage of a run, on the pairs of its stage 1; resumes what was interrupted.

    Args:
        run: the run.
        place: name of the stage; the weights go into <place>.safetensors beside its folder.
        name: one of `RECIPES`.
        phases: as `plan` gives them.
        split: which pairs of the run serve what.
        file: from the user, where the recipe needs one.

    Returns:
        The file: the weights after the last step.

    Raises:
        FusionError: no pairs to train or to validate on, or the user's file is missing.
    """
    train, validation = split.fusion_train, split.fusion_validation
    if not train or not validation:
        raise FusionError(f"{run.data_root}: expected pairs to train and to validate on, found {len(train)} and "
                          f"{len(validation)}; data/README.md says which data sets have a train part")
    set_seed(run.profile.seed)  # the initial weights shall not depend on what ran before
    objective = Objective(peers.build(name), helper(name, file))
    plain = [{k: v for k, v in vars(r).items() if isinstance(v, int | float | str | tuple | dict)} for r in phases]
    stage = run.stage(
        place, fit, Recipe, type(objective.peer), peer=name, phases=plain,
        amp=run.profile.amp, pairs=[listing(each, run.data_root) for each in (train, validation)],
        file=file_fingerprint(file) if file and Path(file).is_file() else str(file),
    )  # fmt: skip
    keep = partial(save, metadata={"peer": type(objective.peer).__name__, "recipe": json.dumps(plain)})
    folders = [stage.folder / f"phase-{number}" for number in range(1, len(phases) + 1)]
    out = run.folder / f"{place}.safetensors"
    if not stage.finished:
        for folder, recipe in zip(folders, phases):
            print(f"{name}, {folder.name.replace('-', ' ')} of {len(phases)}: {recipe.note}")
            set_seed(run.profile.seed)
            size = {"resize": recipe.resize, "crop": recipe.crop, "seed": run.profile.seed}
            fit(
                objective, lambda model, batch: model(batch), FusionDataset(train, **size, crops=recipe.crops),
                FusionDataset(validation, **size, train=False), folder, run.profile, optimizer=objective.begin(recipe),
                epochs=recipe.epochs, steps=recipe.steps or None, batch=recipe.batch, schedule=recipe.schedule,
                clip=recipe.clip, save=keep,
            )  # fmt: skip
        stage.finish(weights=out.name)
    write_atomically(out, (folders[-1] / "last.safetensors").read_bytes())
    return out


def plan(name: str, settings: dict) -> list[Recipe]:
    """The phases of a recipe with settings replaced; BUDGET is shared among them as the recipe's own epochs are.

    Raises:
        FusionError: an unknown setting, or a value that cannot be.
    """
    every = (*TUNABLE, *SETTINGS, *BUDGET)
    if wrong := [key for key in settings if key not in every]:
        raise FusionError(f"no setting of a training is called {wrong[0]!r}; there are {', '.join(every)}")
    last, multiple = RECIPES[name], peers.PEERS[name].multiple
    changed = {key: value for key, value in settings.items() if key not in SETTINGS}
    for key, value in changed.items():
        wanted, least = (float, 0) if isinstance(getattr(last, key), float) else (int, 1)
        if not isinstance(value, wanted | int) or value < least:
            raise FusionError(f"{key} must be a {'number from 0' if least == 0 else 'whole number from 1'} on, but is "
                              f"{value!r}")
    if changed.get("crop", 0) % multiple:
        raise FusionError(f"{name} takes sides in multiples of {multiple}: crop must be one, but is {changed['crop']}")
    phases = [last.first, last] if last.first else [last]
    whole, budget = sum(phase.epochs for phase in phases), {key: changed.pop(key) for key in BUDGET if key in changed}
    shares = [{key: max(1, round(n * phase.epochs / whole)) for key, n in budget.items()} for phase in phases]
    return [replace(phase, **changed, **share) for phase, share in zip(phases, shares)]


def helper(name: str, file: str | Path | None) -> nn.Module | None:
    """What the loss of a peer takes beside the batch, from the user's file; FusionError says what is missing."""
    needs = RECIPES[name].needs
    if needs and not file:
        raise FusionError(f"the loss of {name} needs {NEEDS[needs]}: give it by --{needs}")
    return HELPERS[needs](file) if needs else None


class Objective(nn.Module):
    """A peer, the network beside it and the loss of the current phase: a batch in, (total, parts) out.

    As one module, so that all that a loss calls is inside of the forward pass that accelerate wraps.
    """

    def __init__(self, peer: Peer, helper: nn.Module | None = None):
        super().__init__()
        self.peer, self.helper, self.loss = peer, helper, None

    def begin(self, recipe: Recipe) -> torch.optim.Optimizer:
        """Take the loss of a phase, freeze what it does not train, and return its optimiser."""
        self.loss, groups = recipe.loss, {}
        for name, parameter in self.peer.named_parameters():
            trained = name.startswith(recipe.trains) and not any(part in name for part in recipe.idle)
            parameter.requires_grad_(trained)
            if trained:
                rate = next((factor for start, factor in recipe.rates.items() if name.startswith(start)), 1.0)
                groups.setdefault(rate * recipe.learning_rate, []).append(parameter)
        groups = [{"params": parameters, "lr": rate} for rate, parameters in groups.items()]
        return recipe.optimizer(groups, weight_decay=recipe.weight_decay)

    def forward(self, batch: dict[str, Tensor]) -> Terms:
        """The loss of a batch, and its terms."""
        return self.loss(self.peer, batch, self.helper)


def save(objective: Objective, path: Path, metadata: dict[str, str]) -> None:
    """Write the weights of the peer alone, with what trained them in the header."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in objective.peer.state_dict().items()}
    write_atomically(path, serialise(tensors, metadata=metadata))
