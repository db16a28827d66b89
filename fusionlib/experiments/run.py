"""Runs and stages: where results lie, and how a finished result is recognised.

A run is a folder, data/runs/<profile> by default, with one folder, a stage, per notebook. The fingerprint of a stage
covers all that its result depends on: settings, data, earlier stages, and the code that computes it. A finished stage
has a provenance.json, and is loaded while its fingerprint stays the same. Results of another fingerprint are moved
aside, to <stage>@<fingerprint>, and never deleted (see `folders`). Several processes may work in a run at once.
"""

import datetime
import functools
import importlib.metadata
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

import fusionlib
from fusionlib.config import PROFILES, Profile, profile
from fusionlib.data.manifests import read_manifest
from fusionlib.data.pairs import Pair
from fusionlib.data.splits import Parts, parts
from fusionlib.experiments import folders, inputs
from fusionlib.feedback.querying import read_assignment
from fusionlib.feedback.store import Answer, open_store
from fusionlib.inference.network import placed
from fusionlib.models.fusion_network import FusionNetwork
from fusionlib.models.text_dfh import TextGuidedFusion
from fusionlib.models.weights import load
from fusionlib.utils import distributed
from fusionlib.utils.allocator import keep_freed_memory
from fusionlib.utils.code import code_of
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import fingerprint, load_json, read_json, write_json, writing
from fusionlib.utils.locks import Presence, lock_beside, presence
from fusionlib.utils.terminal import command_line
from fusionlib.visualization.style import annotate, save, set_style
from fusionlib.visualization.table_export import save_table, show_table

RECORD = "provenance.json"  # of finished results
PACKAGES = ("torch", "torchvision", "transformers", "ultralytics", "kornia", "numpy", "opencv-python")


@dataclass(frozen=True)
class Run:
    """One run: its settings, its folder and the root of its data sets."""

    profile: Profile
    folder: Path
    data_root: Path
    pairs_root: Path | None = None  # that of `root`, if it is known already
    looks: bool = False  # whether it is looked at only: nothing is written

    @property
    def root(self) -> Path:
        """The folder below which the pairs of notebook 01 lie: the data root, or that of the folders it was given."""
        if self.pairs_root:
            return self.pairs_root
        try:
            facts = self.finished("01_data").provenance.get("facts", {})
        except FusionError:  # notebook 01 has not been run
            facts = {}
        return Path(facts.get("root", self.data_root))

    @functools.cached_property
    def split(self) -> dict[str, list[Pair]]:
        """The pairs that notebook 01 has chosen, {"train", "test"}; FusionError before it is finished."""
        return read_manifest(self.finished("01_data").folder / "manifest.json", self.root)

    @functools.cached_property
    def parts(self) -> Parts:
        """The training, validation and test pairs of each stage; FusionError before notebook 01 is finished."""
        return parts(self.split, self.profile)

    def answers(self, pairs: Sequence[Pair]) -> list[Answer]:
        """The answers about the fused images of these pairs; FusionError before notebook 03 is finished."""
        assigned = self.finished("03_mllm_feedback").folder / "assigned.json"
        return read_assignment(assigned, open_store(self.folder / "answers"), [pair.label for pair in pairs])

    @functools.cached_property
    def presence(self) -> Presence | None:
        """What this process uses in the run's folder, for other processes to see; None where nothing can be written."""
        with suppress(OSError):
            return None if self.looks else presence(self.folder)

    @functools.cached_property
    def _places(self) -> dict[Path, Path]:
        """The folders of the stages that were opened, so that they stay the same whatever other processes do."""
        return {}

    @property
    def is_default(self) -> bool:
        """Whether this is the unchanged quick profile on the embedded scenes, whose results are known."""
        return self.profile == PROFILES["quick"] and self.root.is_relative_to(self.folder)

    @property
    def figures(self) -> Path:
        """Folder for figures."""
        return self.folder / "figures"

    def about(self, pairs: Sequence[Pair], detail: str = "") -> str:
        """What a figure or table was made from: data sets, profile, number of image pairs."""
        datasets = ", ".join(dict.fromkeys(pair.dataset for pair in pairs))
        return f"{datasets}, profile {self.profile.name}, n = {len(pairs)} image pair{'s' * (len(pairs) != 1)}{detail}"

    def show(self, made: Figure | pd.DataFrame, name: str, pairs: Sequence[Pair] = (), detail: str = "",
             ) -> Figure | Styler:
        """Write a figure (png, pdf) or a table (csv, LaTeX, HTML) as figures/<name>; returns what to display.

        Below a figure stands what it was made from: `about` these pairs. The caption of a table says so itself.
        """
        if isinstance(made, Figure):
            if pairs:
                annotate(made, self.about(pairs, detail))
            save(made, self.figures / f"{name}.png")
            return made
        save_table(made, self.figures / name)
        return show_table(made)

    @property
    def roots(self) -> tuple[Path, ...]:
        """Folders whose subfolders weights and peers may hold the user's weights: at or above the data root, data/."""
        return inputs.roots_of(self.data_root)

    def stage(self, name: str | Path, *code: Callable, **inputs) -> "Stage":
        """Open the folder of a stage for these inputs.

        Args:
            name: of the stage, such as "02_fusion_network", or the path of a folder in the run.
            code: functions and classes that compute the results (see `utils.code.code_of`).
            inputs: everything else that they depend on: plain values, and fingerprints of earlier stages.
        """
        inputs = {**inputs, "seed": self.profile.seed, "code": code_of(*code)}
        folder, digest = self.folder / name, fingerprint(inputs)
        with distributed.process().main_process_first():  # the others find it claimed
            with writing(self.folder):
                self._places[folder] = folders.claim(folder, digest, self.presence or presence(self.folder))
        return Stage(self, self._places[folder], digest, inputs)

    def weights(self, name: str) -> Path:
        """Find a weight file by path or by name; FusionError lists the folders that were searched."""
        return inputs.find_weights(name, self.data_root)

    def command(self, only: str) -> str:
        """The command that executes a notebook of this run, with the data root, folder and settings that were given."""
        name, base = self.profile.name, PROFILES.get(self.profile.name, self.profile)
        changed = [f"{key}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
                   for key, value in asdict(self.profile).items() if value != getattr(base, key)]  # fmt: skip
        standard = inputs.run_folder(name)
        given = "" if self.data_root == inputs.data_root_of(base, self.folder).resolve() else self.data_root
        return command_line("run", profile=name, only=only, data_root=given, set=changed,
                            out="" if self.folder == standard.resolve() else self.folder)  # fmt: skip

    def finished(self, name: str, digest: str = "") -> "Stage":
        """The finished stage of an earlier notebook: the one that was asked for last, or the one of a fingerprint.

        FusionError says which notebook has to run before.
        """
        folder = self.folder / name
        place = None if digest else self._places.get(folder)
        place = place or folders.find(folder, self.presence, digest)
        command, path = self.command(name[:2]), place / RECORD
        record = load_json(path, "the record of finished results", f"run notebook {name} again ({command})",
                           folders.check_record) if path.exists() else None  # fmt: skip
        if record is None or digest not in ("", record["fingerprint"]):
            raise FusionError(f"{folder} has no finished results{f' of fingerprint {digest}' if digest else ''}: run "
                              f"notebook {name} with the same settings first ({command})")
        if not digest:
            self._places[folder] = place
        return Stage(self, place, record["fingerprint"], record["inputs"])


@dataclass(frozen=True)
class Stage:
    """The results of one notebook: a folder, and the fingerprint of all that they depend on."""

    run: Run
    folder: Path
    fingerprint: str
    inputs: dict

    @property
    def weights(self) -> Path:
        """File of the weights that a training returns: after its last epoch or, of stage 2, after the best one."""
        return self.folder / "last.safetensors"

    @property
    def provenance(self) -> dict | None:
        """The record of `finish`, or None while the stage is unfinished."""
        record = read_json(self.folder / RECORD, folders.check_record)
        return record if record and record["fingerprint"] == self.fingerprint else None

    @property
    def finished(self) -> bool:
        """Whether all results are complete; prints when they are, which explains why a notebook was quick."""
        if self.provenance is None:
            return False
        print(f"{self.folder.name}: loaded, finished on {self.provenance['date']} with the same settings, data, code.")
        return True

    def finish(self, **facts) -> None:
        """Record that the results are complete, with further facts (plain values)."""
        versions = {p: importlib.metadata.version(p) for p in PACKAGES} | {"fusionlib": fusionlib.__version__}
        root = self.run.data_root if self.run.pairs_root else self.run.root
        record = {
            "fingerprint": self.fingerprint, "date": datetime.date.today().isoformat(),
            "profile": asdict(self.run.profile), "data_root": str(root), "inputs": self.inputs,
            "versions": versions, "facts": facts,
        }
        if distributed.process().is_main_process:
            write_json(self.folder / RECORD, record)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Compute the results while no other process does; one that does is waited for, and then they are finished."""
        process = distributed.process()
        wait = process.num_processes == 1  # others would wait for the main one, and not as long
        with lock_beside(self.folder, wait) if process.is_main_process else nullcontext():
            yield


def network_of(stage: Stage) -> FusionNetwork | TextGuidedFusion:
    """Load the network of a finished stage 1 or 2, in evaluation mode on the best device."""
    first = "02_fusion_network"  # whose results those of stage 2 belong to
    is_first = stage.folder.name.partition("@")[0] == first
    fusion = stage if is_first else stage.run.finished(first, stage.inputs.get("fusion", ""))
    network = placed(load(fusion.weights))
    return network if is_first else placed(load(stage.weights, network))


def open_run(name: str = "quick", data_root: str = "", out: str = "", **overrides) -> Run:
    """Start or continue a run, and set seed, number of threads, memory allocator and style of figures.

    Args:
        name: of the profile.
        data_root: folder that holds the data sets' folders; empty: the embedded scenes (quick) or data/.
        out: folder of the run; empty: data/runs/<profile>.
        overrides: single settings, see `config.profile`.

    Raises:
        FusionError: unknown profile or setting, or a data root that is no folder.
    """
    settings = inputs.checked_profile(name, **overrides)
    folder = inputs.run_folder(name, out)
    root = inputs.data_root_of(settings, folder, data_root)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # of `accelerate launch` on this machine
    torch.set_num_threads(settings.threads or max(1, (os.cpu_count() or 1) // processes))
    torch.manual_seed(settings.seed)
    keep_freed_memory()
    set_style()
    return Run(settings, folder.resolve(), root.resolve())


def reopen(folder: str | Path, data_root: str | Path = "") -> Run:
    """Open a run whose notebook 01 is finished to look at it: seed and threads are not set, and nothing is written.

    `data_root` is the current folder of its data sets; empty: the recorded one, or else the default of its profile.

    Raises:
        FusionError: no such run in the folder, or a data root that is no folder.
    """
    folder = Path(folder).expanduser().resolve()
    places = [folders.find(folder / name, None) for name in ("04_text_dfh", "02_fusion_network", "01_data")]
    record = next(filter(None, (read_json(place / RECORD, folders.check_record) for place in places)), None)
    record = record or load_json(places[-1] / RECORD, "the record of notebook 01 in the folder of a run",
                                 "run notebook 01, or choose another folder", folders.check_record)  # fmt: skip
    values = {f.name: record["profile"][f.name] for f in fields(Profile)[1:] if f.name in record["profile"]}
    try:
        settings = replace(profile("paper", **values), name=str(record["profile"].get("name")))
    except FusionError as error:
        raise FusionError(f"{folder}: expected valid settings of a run, but {error}: run its notebooks again") from None
    recorded = record.get("data_root", "")
    root = inputs.data_root_of(settings, folder, data_root or (recorded if os.path.isdir(recorded) else "")).resolve()
    return Run(settings, folder, root, root if data_root else None, looks=True)


def fingerprint_pairs(pairs: Sequence[Pair], root: Path) -> str:
    """Fingerprint of pairs below a root, by path and size of the image files, labels and scenes; nothing is decoded."""
    return fingerprint([[str(pair.ir.relative_to(root)), pair.ir.stat().st_size, pair.visible.stat().st_size,
                         None if pair.boxes is None else [pair.boxes.tolist(), pair.classes], pair.scene]
                        for pair in pairs])
