"""Training of the compared methods on the user's pairs, by their own recipes, under the suite's loop."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from accelerate.utils import set_seed
from safetensors.torch import save as serialise
from torch import Tensor, nn

import fusionlib
from fusionlib import peers
from fusionlib.config import Profile
from fusionlib.data.datasets import FusionDataset
from fusionlib.data.layouts import read
from fusionlib.data.pairs import Pair
from fusionlib.data.splits import Parts, choose, parts
from fusionlib.experiments.run import Run, begin, listing
from fusionlib.peers.losses import Terms
from fusionlib.peers.peer import Peer
from fusionlib.peers.recipes import RECIPES, Recipe
from fusionlib.training.trainer import fit
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import file_fingerprint, write_atomically

TUNABLE = ("batch", "crop", "crops", "resize", "learning_rate", "weight_decay", "clip")  # of the recipe, in each phase
SETTINGS = ("seed", "threads", "amp", "workers", "validation")  # of the suite's profile
NEEDS = {
    "vgg": "torchvision's state dict of vgg16 (download.pytorch.org/models/vgg16-397923af.pth)",
    "text": "CLIP's vector [1,512] of the plain prompt in a file, or the folder of CLIP ViT-B/32",
}


def train_peer(
    name: str, data_root: str | Path, out: str | Path | None = None, *, steps: int | None = None,
    epochs: int | None = None, vgg: str | Path | None = None, text: str | Path | None = None, **settings,
) -> Path:  # fmt: skip
    """Train a compared method by its recipe on the training parts of data sets; resumes what was interrupted.

    Args:
        name: one of `RECIPES`, in any case.
        data_root: folder that holds data sets' folders, or is one.
        out: file of the weights; data/runs/peers/<name>.safetensors by default. A folder beside it, called as the file
            without its suffix, receives for each phase curves.csv, the best weights and the state to resume from.
        steps: budget in steps of the optimiser, shared among the phases as the recipe's epochs are.
        epochs: budget in passes over the training pairs, shared alike; the recipe's own without either.
        vgg: torchvision's state dict of vgg16, where the recipe needs it.
        text: a file with CLIP's vector [1,512] of the plain prompt, or the folder of CLIP, where the recipe needs it.
        settings: TUNABLE ones of the recipe and SETTINGS of the suite.

    Returns:
        The file: the weights after the last step, which `peers.build(name, weights=file)` loads.

    Raises:
        FusionError: unknown name or setting, a missing file, or data without pairs to train and to validate on.
    """
    name = next((known for known in RECIPES if known.lower() == name.lower()), name)
    if name not in RECIPES:
        raise FusionError(f"there is no recipe to train {name!r}: choose among {', '.join(RECIPES)}")
    out = Path(out or fusionlib.ROOT / "data" / "runs" / "peers" / f"{name}.safetensors")
    if out.suffix != ".safetensors":
        raise FusionError(f"{out}: expected the name of a file that ends in .safetensors, found another one")
    phases = plan(name, settings, steps, epochs)
    file = {"": None, "vgg": vgg, "text": text}[phases[-1][0].needs]
    own = {key: value for key, value in settings.items() if key in SETTINGS}
    run = begin("small", str(data_root), str(out.parent), **own)
    split = parts(choose(read(run.data_root).pairs), run.profile)
    train_on(run, out.stem, name, phases, split, file)
    return out


def train_on(
    run: Run, place: str, name: str, phases: list[tuple[Recipe, dict]], split: Parts,
    file: str | Path | None = None,
) -> Path:  # fmt: skip
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
    objective = Objective(peers.build(name), helper(name, phases[-1][0], file))
    plain = [{k: v for k, v in vars(r).items() if isinstance(v, int | float | str | tuple | dict)} | budget
             for r, budget in phases]  # fmt: skip
    stage = run.stage(
        place, fit, Recipe, type(objective.peer), peer=name, phases=plain,
        amp=run.profile.amp, pairs=[listing(each, run.data_root) for each in (train, validation)],
        file=file_fingerprint(file) if file and Path(file).is_file() else str(file),
    )  # fmt: skip
    metadata = {"peer": type(objective.peer).__name__, "recipe": json.dumps(plain)}
    folders = [stage.folder / f"phase-{number}" for number in range(1, len(phases) + 1)]
    out = run.folder / f"{place}.safetensors"
    if not stage.finished:
        for folder, (recipe, budget) in zip(folders, phases):
            print(f"{name}, {folder.name.replace('-', ' ')} of {len(phases)}: {recipe.note}")
            keep = partial(save, metadata=metadata)
            run_phase(objective, recipe, budget, train, validation, folder, run.profile, keep)
        stage.finish(weights=out.name)
    write_atomically(out, (folders[-1] / "last.safetensors").read_bytes())
    return out


def plan(name: str, settings: dict, steps: int | None = None, epochs: int | None = None) -> list[tuple[Recipe, dict]]:
    """The phases of a recipe with settings replaced, each with its budget: {"epochs"}, and {"steps"} where given.

    Raises:
        FusionError: an unknown setting, or a value that cannot be.
    """
    wrong = [key for key in settings if key not in TUNABLE + SETTINGS]
    if wrong:
        raise FusionError(f"no setting of a training is called {wrong[0]!r}; there are {', '.join(TUNABLE + SETTINGS)}")
    last = RECIPES[name]
    phases = [last.first, last] if last.first else [last]
    changed = {key: value for key, value in settings.items() if key in TUNABLE}
    given = changed | {k: v for k, v in {"steps": steps, "epochs": epochs}.items() if v is not None}
    for key, value in given.items():
        wanted, least = (float, 0) if isinstance(getattr(last, key, 1), float) else (int, 1)
        if not isinstance(value, wanted | int) or value < least:
            raise FusionError(f"{key} must be a {'number from 0' if least == 0 else 'whole number from 1'} on, but is "
                              f"{value!r}")
    multiple = peers.PEERS[name].multiple
    if changed.get("crop", 0) % multiple:
        raise FusionError(f"{name} takes sides in multiples of {multiple}: crop must be one, but is {changed['crop']}")
    whole, planned = sum(phase.epochs for phase in phases), []
    for phase in phases:
        budget = {"epochs": max(1, round((epochs or whole) * phase.epochs / whole))}
        budget |= {"steps": max(1, round(steps * phase.epochs / whole))} if steps else {}
        planned.append((replace(phase, **changed), budget))
    return planned


def helper(name: str, recipe: Recipe, file: str | Path | None) -> nn.Module | None:
    """The network beside a peer, from the user's file where the recipe needs one; FusionError says what is missing."""
    if recipe.needs and not file:
        raise FusionError(f"the loss of {name} needs {NEEDS[recipe.needs]}: give it by --{recipe.needs}")
    return recipe.helper and (recipe.helper(file) if recipe.needs else recipe.helper())


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
        for name, parameter in self.named_parameters():
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


def run_phase(
    objective: Objective, recipe: Recipe, budget: dict, train: Sequence[Pair], validation: Sequence[Pair], folder: Path,
    settings: Profile, save: Callable[[nn.Module, Path], object],
) -> None:  # fmt: skip
    """Train an objective by one phase of a recipe; what is done already is loaded from the folder."""
    set_seed(settings.seed)
    optimizer = objective.begin(recipe)
    size = {"resize": recipe.resize, "crop": recipe.crop, "seed": settings.seed}
    samples = FusionDataset(train, **size, crops=recipe.crops), FusionDataset(validation, **size, train=False)
    fit(
        objective, lambda model, batch: model(batch), *samples, folder, settings, optimizer=optimizer, **budget,
        batch=recipe.batch, schedule=recipe.schedule, clip=recipe.clip, save=save,
    )  # fmt: skip


def save(objective: Objective, path: Path, metadata: dict[str, str]) -> None:
    """Write the weights of the peer alone, with what trained them in the header."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in objective.peer.state_dict().items()}
    write_atomically(path, serialise(tensors, metadata=metadata))
