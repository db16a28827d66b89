"""What a report shows of a run: its notebooks, data, tables, figures and settings, and where each came from.

A report is made of what is there. A notebook that failed has its message, a stage that is not finished says so, and a
file that cannot be read is named; only a folder without any executed notebook is refused.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from fusionlib.config import PROFILES
from fusionlib.utils.errors import FusionError

NUMBERED = "[0-9][0-9]_*"
PARTS = ("train", "test")
SYNTHETIC = {"Scenes": "Scenes (synthetic)", "Phantom": "Phantom (synthetic)"}  # what the suite draws by itself


@dataclass(frozen=True)
class Notebook:
    """An executed notebook, or one that the summary names: `content` is None where there is no readable copy."""

    name: str
    state: str
    seconds: float | None
    peak: float | None
    message: str
    date: str
    content: NotebookNode | None

    @property
    def title(self) -> str:
        """The first heading of the notebook without its number; without one, its name."""
        cells = self.content.cells if self.content else []
        lines = [line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
        heading = next((line[2:].strip() for line in lines if line.startswith("# ")), self.name)
        return heading.removeprefix(self.name[:2]).strip(" _") or self.name


@dataclass(frozen=True)
class Stage:
    """A folder with results: `record` is what `runs.Stage.finish` wrote, and empty while the stage is unfinished."""

    name: str
    record: dict

    @property
    def settings(self) -> dict:
        """The profile that the stage ran with."""
        return self.record.get("profile") or {}


@dataclass
class Contents:
    """All that a report shows, in the order of the notebooks. `problems` has a sentence for each unreadable file."""

    folder: Path
    notebooks: list[Notebook] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    manifests: dict[str, dict] = field(default_factory=dict)  # by the name of the notebook that wrote it
    figures: list[Path] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def profile(self, number: str = "") -> str:
        """Name of the profile, of the notebook of this number where it recorded one."""
        names = [str(s.settings["name"]) for s in self.stages if s.settings.get("name")]
        own = [str(s.settings["name"]) for s in self.stages if s.settings.get("name") and s.name[:2] == number]
        return (own or names or [self.folder.name])[0]

    def datasets(self, number: str = "") -> str:
        """Names of the data sets of a notebook: of its own manifest, or else of that of notebook 01."""
        own = [m for name, m in self.manifests.items() if name[:2] == number] or list(self.manifests.values())[:1]
        names = sorted({str(e.get("dataset")) for m in own for part in PARTS for e in m.get(part, ())})
        return ", ".join(SYNTHETIC.get(name, name) for name in names)

    @property
    def feedback(self) -> str:
        """Who gave the feedback, as notebook 03 recorded it; empty where it did not run."""
        models = [(s.record.get("inputs") or {}).get("model") for s in self.stages if s.name.startswith("03")]
        return str(next(filter(None, models), ""))

    def about(self, number: str = "") -> str:
        """What a picture or table is of, in one line."""
        data = self.datasets(number)
        return f"profile {self.profile(number)}, {data or 'data not recorded'}"


def read(folder: str | Path) -> Contents:
    """Read the folder of a run.

    Raises:
        FusionError: the folder holds no executed notebook.
    """
    contents = Contents(Path(folder).expanduser())
    files = {path.stem: path for path in sorted(contents.folder.glob(f"{NUMBERED}.ipynb"))}
    if not files:
        raise FusionError(f"{contents.folder}: expected the executed notebooks of a run, found none; make them with "
                          "python -m fusionlib run --profile quick, or give the folder of another run with --run")
    summary = _json(contents, contents.folder / "summary.json", list) or []
    rows = {str(row["notebook"]): row for row in summary if isinstance(row, dict) and "notebook" in row}
    for name in sorted(files.keys() | rows.keys()):
        contents.notebooks.append(_notebook(contents, name, files.get(name), rows.get(name, {})))
    for mark in sorted(contents.folder.rglob("fingerprint.json")):
        name = mark.parent.relative_to(contents.folder).as_posix()
        if "@" not in name:  # kept aside: made with other settings than the rest
            contents.stages.append(Stage(name, _json(contents, mark.with_name("provenance.json"), dict) or {}))
    for path in sorted(contents.folder.glob(f"{NUMBERED}/**/manifest.json")):
        name = path.relative_to(contents.folder).parts[0]
        manifest = None if "@" in str(path.relative_to(contents.folder)) else _json(contents, path, dict)
        if manifest:
            contents.manifests[name] = manifest
    contents.figures = sorted((contents.folder / "figures").glob("*.png"))
    contents.tables = sorted((contents.folder / "figures").glob("*.html"))
    return contents


def data_rows(contents: Contents) -> list[dict]:
    """One row per data set and part of each manifest: pairs, labelled ones, labels by class, sizes."""
    rows = []
    for name, manifest in contents.manifests.items():
        entries = [(str(entry.get("dataset")), part, entry) for part in PARTS for entry in manifest.get(part, ())]
        for dataset, part in dict.fromkeys(entry[:2] for entry in sorted(entries, key=lambda e: e[0])):
            chosen = [entry for *key, entry in entries if key == [dataset, part]]
            labels = Counter(label for entry in chosen for label in entry.get("classes") or ())
            sizes = sorted({tuple(entry["size"]) for entry in chosen if entry.get("size")}, key=lambda s: s[0] * s[1])
            rows.append({
                "data set": SYNTHETIC.get(dataset, dataset), "part": part, "pairs": len(chosen),
                "labelled": sum(entry.get("boxes") is not None for entry in chosen),
                "labels": ", ".join(f"{count} {label}" for label, count in labels.most_common()),
                "width x height": " to ".join(f"{w}x{h}" for h, w in (sizes[:1] + sizes[1:][-1:])),
                "chosen by": name,
            })  # fmt: skip
    return rows


def settings_rows(contents: Contents) -> list[dict]:
    """One row per setting: what it was, and what the profile has, where that is something else.

    A stage keeps the settings of the time when it ran, so a setting can have several values, with the stages of each.
    """
    with_settings = [stage for stage in contents.stages if stage.settings]
    rows = []
    for key in dict.fromkeys(key for stage in with_settings for key in stage.settings):
        values = {}
        for stage in with_settings:
            if key in stage.settings:
                values.setdefault(_plain(stage.settings[key]), []).append(stage.name)
        known = PROFILES.get(contents.profile())
        usual = _plain(getattr(known, key)) if hasattr(known, key) else ""
        shown = "; ".join(f"{v} ({', '.join(stages)})" for v, stages in values.items())
        value = next(iter(values)) if len(values) == 1 else shown
        rows.append({"setting": key, "value": value, "usual": "" if value == usual else usual})
    return rows


def versions(contents: Contents) -> dict[str, str]:
    """Versions of the packages; several where the stages differ."""
    found = {}
    for stage in contents.stages:
        for package, version in (stage.record.get("versions") or {}).items():
            found.setdefault(str(package), {})[str(version)] = None
    return {package: ", ".join(numbers) for package, numbers in found.items()}


def _notebook(contents, name, path, row):
    content = None
    if path:
        try:
            content = nbformat.read(path, as_version=4)
        except Exception as error:  # nbformat has no exception of its own for a file that is half written
            contents.problems.append(f"{path}: expected an executed notebook, found {error}; run it again")
    record = dict(content.metadata.get("papermill", {})) if content else {}  # where the summary is of another run
    failed = record.get("exception") or not content
    state = row.get("state") or ("failed" if failed else "done")
    seconds, date = row.get("seconds", record.get("duration")), str(record.get("end_time") or "")[:16].replace("T", " ")
    return Notebook(name, str(state), seconds, row.get("peak MiB"), str(row.get("message") or ""), date, content)


def _json(contents, path, wanted):
    """The content of a file, or None where it is missing; what cannot be read is a problem."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, wanted):
            return content
        found = f"a {type(content).__name__}"
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        found = str(error)
    contents.problems.append(f"{path}: expected a json {wanted.__name__}, found {found}; run the notebook again")
    return None


def _plain(value):
    """A setting as text, the same for a tuple and the list that json makes of it."""
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
