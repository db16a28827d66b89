"""Compared methods and the origin of their weights: an official release, the user, or a training of the suite."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fusionlib import peers
from fusionlib.data.pairs import Pair
from fusionlib.experiments import peer_training
from fusionlib.experiments.run import Run, network_of
from fusionlib.feedback.store import Answer
from fusionlib.inference.network import fuse, image_path
from fusionlib.peers import checkpoints
from fusionlib.peers.objectives import Sentence
from fusionlib.peers.recipes import RECIPES, architecture_only
from fusionlib.peers.sources import SOURCES, spelled
from fusionlib.peers.textif import PROMPT, sentence_vector
from fusionlib.utils import devices
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import file_fingerprint, fingerprint

OURS_STAGE_1, OURS = "ours (stage 1)", "ours"
USER_FILES = {"vgg": "vgg16-397923af.pth", "text": "clip_prompt.safetensors"}  # as Run.weights looks for them

Fuse = Callable[[Tensor, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Method:
    """A row of the tables.

    origin: of its weights, in words; "no weights" is followed by a colon and the reason. folder: of its results, None
    without weights. make: loads the network and returns the function that fuses infrared [1,H,W] and visible [3,H,W],
    with a text [L,D] where the method has answers, to [3,H,W], all in 0..1; None for a method that fuses nothing, which
    has no weights or is a source itself. answers: returns the answers about pairs, in their order; None without text.
    """

    name: str
    origin: str
    folder: Path | None = None
    make: Callable[[], Fuse] | None = None
    answers: Callable[[Sequence[Pair]], list[Answer]] | None = None

    @property
    def note(self) -> str:
        """The origin in short, for a table."""
        return self.origin.partition(":")[0]

    def image_path(self, pair: Pair) -> Path:
        """File of the method's image of a pair: that of the source for "infrared" and "visible", else a fused one."""
        sources = {"infrared": pair.ir, "visible": pair.visible}
        return sources.get(self.name) or image_path(self.folder / "fused", pair)


def find_methods(run: Run, names: Sequence[str]) -> list[Method]:
    """Find or train the weights of methods to compare.

    Weights are searched in a folder with the method's name, in any case, in peers/checkpoints or peers of the data
    root, of its parent and of data/. Without them the suite trains the methods in the profile's `train_peers` by their
    recipes, on the pairs of stage 1; an interrupted training is resumed. Methods without weights are returned too.

    Args:
        run: with finished notebooks 02 to 04 where `names` has ours.
        names: of `peers.PEERS` in any case, "[85]", `OURS_STAGE_1` (images of notebook 02) and `OURS` (those of 04).

    Raises:
        FusionError: an unknown name, weights that do not fit, or a notebook that has to run before.
    """
    names = spelled(names, (OURS_STAGE_1, OURS))
    # All files are checked first: a wrong one must not be found after hours of training.
    files = {name: user_weights(run.roots, name) for name in names if name in peers.PEERS}
    return [_peer(run, name, files[name]) if name in files else _ours(run, name) if name in (OURS_STAGE_1, OURS)
            else Method(name, f"no weights: {SOURCES[name].paper}") for name in names]


def user_weights(roots: Sequence[Path], name: str, check: bool = True) -> list[Path]:
    """The user's weight files for a peer in peers/checkpoints/<name> or peers/<name> of a root; none without a folder.

    Raises FusionError where they do not fit it, unless `check` is false.
    """
    for root in roots:
        for place in (root / "peers" / "checkpoints", root / "peers"):
            for folder in sorted(place.glob("*")):
                if folder.name.lower() == name.lower() and folder.is_dir():
                    if check:
                        peers.build(name, folder)
                    return [file for file in sorted(folder.iterdir()) if file.suffix in checkpoints.SUFFIXES]
    return []


def _peer(run: Run, name: str, files: list[Path]) -> Method:
    with torch.device("meta"):
        network = peers.PEERS[name]()
    digests, prompt = {file.name: file_fingerprint(file) for file in files}, None
    try:
        if not list(network.parameters()):
            origin = "needs none"
        elif files:
            origin = "official weights" if digests == SOURCES[name].sha256 else "weights of the user"
        elif name in run.profile.train_peers and name in RECIPES:
            origin, files = _train(run, name)
            digests = {file.name: file_fingerprint(file) for file in files}
        else:
            official = f"the official ones are at {SOURCES[name].weights}"
            where = official if name in RECIPES else architecture_only(name)
            return Method(name, f"no weights: {where}; they go into the folder peers/{name.lower()} beside the data")
        if network.takes_text:  # CLIP's vector [1,512] of Text-IF's plain prompt
            file = _user_file(run, "text")
            prompt = Sentence(file).vector if file else sentence_vector(PROMPT)
            digests["prompt"] = fingerprint(prompt.tolist())
    except FusionError as error:  # a file that the user has to provide, and the other rows do not need
        return Method(name, f"no weights: {error}")
    stage = run.stage(f"methods/{name}", type(network), weights=digests)

    def make() -> Fuse:
        peer = peers.build(name, files or None).to(devices.best_device())
        return lambda ir, visible, _: peer.fuse(ir, visible, prompt)

    return Method(name, origin, stage.folder, make)


def _train(run: Run, name: str) -> tuple[str, list[Path]]:
    needs = RECIPES[name].needs
    file = _user_file(run, needs)
    if needs and file is None:
        raise FusionError(f"its training needs {peer_training.NEEDS[needs]}, as data/weights/{USER_FILES[needs]}")
    phases = peer_training.plan(name, {})
    weights = peer_training.train_on(run, f"trained/{name}", name, phases, run.parts, file)
    epochs = sum(phase.epochs for phase in phases)
    datasets = ", ".join(dict.fromkeys(pair.dataset for pair in run.parts.fusion_train))
    return f"trained by the suite, {epochs} epochs on {len(run.parts.fusion_train)} pairs of {datasets}", [weights]


def _user_file(run: Run, needs: str) -> Path | None:
    try:
        return run.weights(USER_FILES[needs]) if needs else None
    except FusionError:
        return None


def _ours(run: Run, name: str) -> Method:
    fusion = run.finished("02_fusion_network")
    trained = run.finished("04_text_dfh") if name == OURS else fusion
    weights = {"fusion": file_fingerprint(fusion.weights), "trained": file_fingerprint(trained.weights)}
    stage = run.stage(f"methods/{name}", fuse, weights=weights)
    origin, answers = ("stage 1 + Text-DFH", run.answers) if name == OURS else ("stage 1", None)
    return Method(name, origin, stage.folder, lambda: functools.partial(fuse, network_of(trained)), answers)
