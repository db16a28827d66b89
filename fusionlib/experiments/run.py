"""Where a run keeps what it makes, and how it knows that something is finished already.

A run is a folder, data/runs/<profile> by default, with one folder per notebook: a stage. A stage has a fingerprint over
all that its result depends on: settings, data, the stages before it and the code that computes it. A finished stage
carries provenance.json; the same fingerprint again means that nothing is computed again. What another fingerprint
left behind is moved aside under its own name, never deleted.
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
from fusionlib.data.pairs import Pair
from fusionlib.data.splits import Parts, parts, read_manifest
from fusionlib.feedback.querying import read_assignment
from fusionlib.feedback.store import Answer, open_store
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
    pairs_root: Path | None = None  # below which the pairs of notebook 01's manifest lie; None: the data root

    @functools.cached_property
    def parts(self) -> Parts:
        """Which pairs serve what; FusionError before notebook 01 has chosen them."""
        manifest = self.finished("01_data").folder / "manifest.json"
        return parts(read_manifest(manifest, self.pairs_root or self.data_root), self.profile)

    def answers(self, pairs: Sequence[Pair]) -> list[Answer]:
        """The answers about the fused images of these pairs; FusionError before notebook 03 has asked."""
        assigned = self.finished("03_mllm_feedback").folder / "assigned.json"
        return read_assignment(assigned, open_store(self.folder / "answers"), [pair.label for pair in pairs])

    @property
    def is_default(self) -> bool:
        """Whether this is the quick profile as it is, on the embedded scenes: the run whose numbers are known."""
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
        """Folders in which the user's weights may lie, in folders called weights and peers: near the data, or data/."""
        return self.data_root, self.data_root.parent, fusionlib.ROOT / "data"

    def stage(self, name: str, *code: Callable, **inputs) -> "Stage":
        """The folder of a notebook's results, for these inputs.

        Args:
            name: the notebook's name, such as "02_fusion_network".
            code: functions and classes that compute the results (see `utils.code.code_of`).
            inputs: everything else that they depend on: plain values, and fingerprints of earlier stages.
        """
        inputs = {**inputs, "seed": self.profile.seed, "code": code_of(*code)}
        stage = Stage(self, self.folder / name, fingerprint(inputs), inputs)
        with distributed.process().main_process_first():  # the others find it claimed
            stage.claim()
        return stage

    def weights(self, name: str) -> Path:
        """A weight file by path or name; names are looked for in the places that the error lists.

        Raises:
            FusionError: it is in none of them.
        """
        places = [Path("."), Path(fusionlib.__file__).parent / "weights", self.data_root,
                  *(root / "weights" for root in self.roots)]  # fmt: skip
        for place in places:
            if (place / name).is_file():
                return (place / name).resolve()
        listed = ", ".join(str(p) for p in places[2:])
        raise FusionError(f"the weights {name} are not there: put the file into one of {listed}, or give its path")

    def finished(self, name: str) -> "Stage":
        """The finished stage of an earlier notebook; FusionError says which notebook to run when it is not there."""
        record = read_json(self.folder / name / "provenance.json")
        if record is None:
            raise FusionError(
                f"{self.folder / name} has no finished results: run notebook {name} with the same profile first "
                f"(python -m fusionlib run --profile {self.profile.name} --only {name[:2]})"
            )
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
        """Where a training leaves the weights after its last epoch."""
        return self.folder / "last.safetensors"

    @property
    def provenance(self) -> dict | None:
        """What `finish` recorded, or None while the stage is unfinished."""
        record = read_json(self.folder / "provenance.json")
        return record if record and record["fingerprint"] == self.fingerprint else None

    @property
    def finished(self) -> bool:
        """Whether all results are there; says so, so that a reader knows why a notebook was quick."""
        if self.provenance is None:
            return False
        print(f"{self.folder.name}: finished on {self.provenance['date']} with the same fingerprint, loaded.")
        return True

    def finish(self, **facts) -> None:
        """Record that the results are complete, with facts (plain values) worth keeping."""
        record = {
            "fingerprint": self.fingerprint,
            "date": datetime.date.today().isoformat(),
            "profile": asdict(self.run.profile),
            "data_root": str(self.run.data_root),
            "inputs": self.inputs,
            "versions": {p: importlib.metadata.version(p) for p in PACKAGES} | {"fusionlib": fusionlib.__version__},
            "facts": facts,
        }
        if distributed.process().is_main_process:
            write_json(self.folder / "provenance.json", record)

    def claim(self) -> None:
        """Make the folder this fingerprint's: move another one's results aside, bring our own back."""
        mark = self.folder / "fingerprint.json"
        other = read_json(mark)
        if other and other["fingerprint"] != self.fingerprint:
            os.replace(self.folder, self._aside(other["fingerprint"]))
        if not self.folder.exists() and self._aside(self.fingerprint).exists():
            os.replace(self._aside(self.fingerprint), self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(mark, {"fingerprint": self.fingerprint})

    def _aside(self, mark: str) -> Path:
        return self.folder.with_name(f"{self.folder.name}@{mark[:12]}")


def open_run(name: str = "quick", data_root: str = "", out: str = "", **overrides) -> Run:
    """Start or continue a run: settings, folders, seed, threads, style of the figures. The first call of a notebook.

    Args:
        name: profile.
        data_root: folder that holds the data sets' folders; empty: the embedded scenes (quick) or data/.
        out: folder of the run; empty: data/runs/<profile>.
        overrides: single settings, see `config.profile`.

    Raises:
        FusionError: unknown profile or setting, or a data root that is not there.
    """
    settings = profile(name, **overrides)
    folder = Path(out) if out else fusionlib.ROOT / "data" / "runs" / name
    root = _data_root(settings, folder, data_root)
    folder.mkdir(parents=True, exist_ok=True)
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # processes of `accelerate launch` on this machine
    torch.set_num_threads(settings.threads or max(1, (os.cpu_count() or 1) // beside))
    torch.manual_seed(settings.seed)
    set_style()
    return Run(settings, folder.resolve(), root.resolve())


def reopen(folder: str | Path, data_root: str | Path = "") -> Run:
    """The run that lies in a folder, to look at: neither seed nor threads are set, and nothing is written.

    Args:
        folder: of a run whose notebook 01 is done.
        data_root: where its data sets lie now; empty: where they lay, or where a run of its profile has them.

    Raises:
        FusionError: no such run in the folder, or a data root that is not there.
    """
    folder = Path(folder).expanduser().resolve()
    records = (read_json(folder / name / "provenance.json") for name in ("04_text_dfh", "02_fusion_network", "01_data"))
    record = next(filter(None, records), None)
    if record is None:
        raise FusionError(f"{folder}: expected the folder of a run, with finished results of notebook 01 in 01_data, "
                          "found none: run notebook 01, or choose another folder")
    known = {f.name for f in fields(Profile)}
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in record["profile"].items() if k in known}
    there, settings = record.get("data_root", ""), Profile(**settings)
    data_root = data_root or (there if Path(there).is_dir() else "")
    return Run(settings, folder, _data_root(settings, folder, data_root).resolve())


def _data_root(settings: Profile, folder: Path, data_root: str | Path) -> Path:
    """The root of the data sets: as given, or the embedded scenes of the run, a folder for each sequence, or data/."""
    if data_root:
        root = Path(data_root).expanduser()
        if not root.is_dir():
            raise FusionError(f"the data root {root} is no folder: give the folder that holds LLVIP/, M3FD/ and so on")
        return root
    if settings.scenes_train:
        return folder / "scenes" / f"seed-{settings.seed}-{settings.scenes_train}-{settings.scenes_test}"
    return fusionlib.ROOT / "data"


def listing(pairs: Sequence[Pair], root: Path) -> str:
    """Fingerprint of which pairs lie below a root, by path and size of the images and by labels; nothing is decoded."""
    rows = [[str(p.ir.relative_to(root)), p.ir.stat().st_size, p.visible.stat().st_size,
             None if p.boxes is None else p.boxes.tolist()] for p in pairs]  # fmt: skip
    return fingerprint(rows)
