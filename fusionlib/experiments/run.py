"""Runs and stages: where results lie, and how a finished result is recognised.

A run is a folder, data/runs/<profile> by default, with one folder, a stage, per notebook. The fingerprint of a stage
covers all that its result depends on: settings, data, earlier stages, and the code that computes it. A finished stage
has a provenance.json, and is loaded while its fingerprint stays the same. Results of another fingerprint are moved
aside, to <stage>@<fingerprint>, and never deleted.
"""

import datetime
import functools
import importlib.metadata
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
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
from fusionlib.feedback.querying import read_assignment
from fusionlib.feedback.store import Answer, open_store
from fusionlib.models.fusion_network import FusionNetwork
from fusionlib.models.text_dfh import TextGuidedFusion
from fusionlib.models.weights import load
from fusionlib.utils import distributed
from fusionlib.utils.code import code_of
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import fingerprint, read_json, write_json
from fusionlib.visualization.style import save, set_style
from fusionlib.visualization.table_export import save_table, show_table

PACKAGES = ("torch", "torchvision", "transformers", "ultralytics", "kornia", "numpy", "opencv-python")


@dataclass(frozen=True)
class Run:
    """One run: its settings, its folder and the root of its data sets."""

    profile: Profile
    folder: Path
    data_root: Path
    pairs_root: Path | None = None  # root of the pairs in notebook 01's manifest; None: the data root

    @functools.cached_property
    def split(self) -> dict[str, list[Pair]]:
        """The pairs that notebook 01 has chosen, {"train", "test"}; FusionError before it is finished."""
        return read_manifest(self.finished("01_data").folder / "manifest.json", self.pairs_root or self.data_root)

    @functools.cached_property
    def parts(self) -> Parts:
        """The training, validation and test pairs of each stage; FusionError before notebook 01 is finished."""
        return parts(self.split, self.profile)

    def answers(self, pairs: Sequence[Pair]) -> list[Answer]:
        """The answers about the fused images of these pairs; FusionError before notebook 03 is finished."""
        assigned = self.finished("03_mllm_feedback").folder / "assigned.json"
        return read_assignment(assigned, open_store(self.folder / "answers"), [pair.label for pair in pairs])

    @property
    def is_default(self) -> bool:
        """Whether this is the unchanged quick profile on the embedded scenes, whose results are known."""
        return self.profile == PROFILES["quick"] and self.data_root.is_relative_to(self.folder)

    @property
    def figures(self) -> Path:
        """Folder for figures."""
        return self.folder / "figures"

    def show(self, made: Figure | pd.DataFrame, name: str) -> Figure | Styler:
        """Write a figure (png, pdf) or a table (csv, LaTeX, HTML) as figures/<name>; returns what to display."""
        if isinstance(made, Figure):
            save(made, self.figures / f"{name}.png")
            return made
        save_table(made, self.figures / name)
        return show_table(made)

    @property
    def roots(self) -> tuple[Path, ...]:
        """Folders whose subfolders weights and peers may hold the user's weights: at or above the data root, data/."""
        return self.data_root, self.data_root.parent, fusionlib.ROOT / "data"

    def stage(self, name: str | Path, *code: Callable, **inputs) -> "Stage":
        """Open the folder of a stage for these inputs.

        Args:
            name: of the stage, such as "02_fusion_network", or the path of a folder in the run.
            code: functions and classes that compute the results (see `utils.code.code_of`).
            inputs: everything else that they depend on: plain values, and fingerprints of earlier stages.
        """
        inputs = {**inputs, "seed": self.profile.seed, "code": code_of(*code)}
        stage = Stage(self, self.folder / name, fingerprint(inputs), inputs)
        with distributed.process().main_process_first():  # the others find it claimed
            stage.claim()
        return stage

    def weights(self, name: str) -> Path:
        """Find a weight file by path or by name; FusionError lists the folders that were searched."""
        places = [Path("."), Path(fusionlib.__file__).parent / "weights", self.data_root,
                  *(root / "weights" for root in self.roots)]
        for place in places:
            if (place / name).is_file():
                return (place / name).resolve()
        searched = ", ".join(map(str, places[2:]))
        raise FusionError(f"the weights {name} are missing: put the file into one of {searched}, or give its path")

    def finished(self, name: str) -> "Stage":
        """The finished stage of an earlier notebook; FusionError says which notebook has to run before."""
        record = read_json(self.folder / name / "provenance.json")
        if record is None:
            command = f"python -m fusionlib run --profile {self.profile.name} --only {name[:2]}"
            raise FusionError(f"{self.folder / name} has no finished results: run notebook {name} with the same "
                              f"profile first ({command})")
        return Stage(self, self.folder / name, record["fingerprint"], record["inputs"])


@dataclass(frozen=True)
class Stage:
    """The results of one notebook: a folder, and the fingerprint of all that they depend on."""

    run: Run
    folder: Path
    fingerprint: str
    inputs: dict

    @property
    def weights(self) -> Path:
        """File of the weights after the last epoch of a training."""
        return self.folder / "last.safetensors"

    @property
    def provenance(self) -> dict | None:
        """The record of `finish`, or None while the stage is unfinished."""
        record = read_json(self.folder / "provenance.json")
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
        record = {
            "fingerprint": self.fingerprint, "date": datetime.date.today().isoformat(),
            "profile": asdict(self.run.profile), "data_root": str(self.run.data_root), "inputs": self.inputs,
            "versions": versions, "facts": facts,
        }
        if distributed.process().is_main_process:
            write_json(self.folder / "provenance.json", record)

    def claim(self) -> None:
        """Prepare the folder for this fingerprint: move the results of another one aside, and its own back."""
        mark = self.folder / "fingerprint.json"
        other = read_json(mark)
        if other and other["fingerprint"] != self.fingerprint:
            os.replace(self.folder, self._aside(other["fingerprint"]))
        if not self.folder.exists() and self._aside(self.fingerprint).exists():
            os.replace(self._aside(self.fingerprint), self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(mark, {"fingerprint": self.fingerprint})

    def _aside(self, digest: str) -> Path:
        return self.folder.with_name(f"{self.folder.name}@{digest[:12]}")


def network_of(stage: Stage) -> FusionNetwork | TextGuidedFusion:
    """Load the network of a finished stage 1 or 2, in evaluation mode on the best device."""
    fusion = stage.run.finished("02_fusion_network")
    network = load(fusion.weights).to(distributed.best_device())
    return network if stage.folder == fusion.folder else load(stage.weights, network)


def open_run(name: str = "quick", data_root: str = "", out: str = "", **overrides) -> Run:
    """Start or continue a run, and set the seed, the number of threads and the style of figures.

    Args:
        name: of the profile.
        data_root: folder that holds the data sets' folders; empty: the embedded scenes (quick) or data/.
        out: folder of the run; empty: data/runs/<profile>.
        overrides: single settings, see `config.profile`.

    Raises:
        FusionError: unknown profile or setting, or a data root that is no folder.
    """
    settings = profile(name, **overrides)
    folder = Path(out) if out else fusionlib.ROOT / "data" / "runs" / name
    root = _data_root(settings, folder, data_root)
    folder.mkdir(parents=True, exist_ok=True)
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # of `accelerate launch` on this machine
    torch.set_num_threads(settings.threads or max(1, (os.cpu_count() or 1) // processes))
    torch.manual_seed(settings.seed)
    set_style()
    return Run(settings, folder.resolve(), root.resolve())


def reopen(folder: str | Path, data_root: str | Path = "") -> Run:
    """Open a run whose notebook 01 is finished to look at it: seed and threads are not set, and nothing is written.

    `data_root` is the current folder of its data sets; empty: the recorded one, or else the default of its profile.

    Raises:
        FusionError: no such run in the folder, or a data root that is no folder.
    """
    folder = Path(folder).expanduser().resolve()
    records = (read_json(folder / name / "provenance.json") for name in ("04_text_dfh", "02_fusion_network", "01_data"))
    record = next(filter(None, records), None)
    if record is None:
        raise FusionError(f"{folder}: expected the folder of a run, with finished results of notebook 01 in 01_data, "
                          "found none: run notebook 01, or choose another folder")
    values = {f.name: record["profile"][f.name] for f in fields(Profile) if f.name in record["profile"]}
    settings = Profile(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    recorded = record.get("data_root", "")
    data_root = data_root or (recorded if Path(recorded).is_dir() else "")
    return Run(settings, folder, _data_root(settings, folder, data_root).resolve())


def _data_root(settings: Profile, folder: Path, data_root: str | Path) -> Path:
    """The given root of the data sets, or the embedded scenes of the run (a folder per sequence), or data/."""
    if data_root:
        root = Path(data_root).expanduser()
        if not root.is_dir():
            raise FusionError(f"the data root {root} is no folder: give the folder that holds LLVIP/, M3FD/ and so on")
        return root
    if settings.scenes_train:
        return folder / "scenes" / f"seed-{settings.seed}-{settings.scenes_train}-{settings.scenes_test}"
    return fusionlib.ROOT / "data"


def fingerprint_pairs(pairs: Sequence[Pair], root: Path) -> str:
    """Fingerprint of pairs below a root, by path and size of the image files, labels and scenes; nothing is decoded."""
    return fingerprint([[str(pair.ir.relative_to(root)), pair.ir.stat().st_size, pair.visible.stat().st_size,
                         None if pair.boxes is None else [pair.boxes.tolist(), pair.classes], pair.scene]
                        for pair in pairs])
