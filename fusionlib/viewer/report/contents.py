"""What a report shows of a run: its notebooks, data, settings and versions, and where each came from.

A report is made of what is there. A notebook that failed has its message, a stage that is not finished says so, and a
file that cannot be read is named; only a folder without any executed notebook is refused.
"""

import json
import re
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
        source = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        heading = re.search(rf"^# (?:{self.name[:2]})?[ _]*(.*\S)", source, re.MULTILINE)
        return heading[1] if heading else self.name

    @property
    def has_error(self) -> bool:
        """Whether a cell failed; a notebook can also be stopped from outside."""
        return any(output.output_type == "error" for cell in self.content.cells for output in cell.get("outputs", ()))


@dataclass
class Contents:
    """What a run recorded, in the order of the notebooks.

    stages: by folder, what `runs.Stage.finish` wrote, and {} while the stage is unfinished.
    manifests: by the name of the notebook that wrote it.
    problems: a sentence for each unreadable file.
    """

    folder: Path
    notebooks: list[Notebook] = field(default_factory=list)
    stages: dict[str, dict] = field(default_factory=dict)
    manifests: dict[str, dict] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, dict]:
        """The profile that each stage ran with, of the stages that recorded one."""
        return {name: record["profile"] for name, record in self.stages.items() if record.get("profile")}

    def profile(self, number: str = "") -> str:
        """Name of the profile, of the notebook of this number where it recorded one."""
        names = {stage: str(profile["name"]) for stage, profile in self.settings.items() if profile.get("name")}
        return [*(names[stage] for stage in names if stage[:2] == number), *names.values(), self.folder.name][0]

    def datasets(self, number: str = "") -> str:
        """Names of the data sets of a notebook: of its own manifest, or else of that of notebook 01."""
        own = [m for name, m in self.manifests.items() if name[:2] == number] or list(self.manifests.values())[:1]
        names = sorted({str(e.get("dataset")) for m in own for part in PARTS for e in m.get(part, ())})
        return ", ".join(SYNTHETIC.get(name, name) for name in names)

    @property
    def feedback(self) -> str:
        """Who gave the feedback, as notebook 03 recorded it; empty where it did not run."""
        models = [(record.get("inputs") or {}).get("model") for name, record in self.stages.items() if name[:2] == "03"]
        return str(next(filter(None, models), ""))

    def about(self, number: str = "") -> str:
        """What a picture or table is of, in one line."""
        return f"profile {self.profile(number)}, {self.datasets(number) or 'data not recorded'}"


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
    summary = _json(contents, contents.folder / "summary.json", list)
    rows = {str(row["notebook"]): row for row in summary if isinstance(row, dict) and "notebook" in row}
    for name in sorted(files.keys() | rows.keys()):
        contents.notebooks.append(_notebook(contents, name, files.get(name), rows.get(name, {})))
    for mark in sorted(contents.folder.rglob("fingerprint.json")):
        name = mark.parent.relative_to(contents.folder).as_posix()
        if "@" not in name:  # kept aside: made with other settings than the rest
            contents.stages[name] = _json(contents, mark.with_name("provenance.json"), dict)
    for path in sorted(contents.folder.glob(f"{NUMBERED}/**/manifest.json")):
        name = path.relative_to(contents.folder)
        if "@" not in str(name) and (manifest := _json(contents, path, dict)):
            contents.manifests[name.parts[0]] = manifest
    return contents


def data_rows(contents: Contents) -> list[dict]:
    """One row per data set and part of each manifest: pairs, labelled ones, labels by class, sizes."""
    rows = []
    for name, manifest in contents.manifests.items():
        groups = {}
        for part in PARTS:
            for entry in manifest.get(part, ()):
                groups.setdefault((str(entry.get("dataset")), part), []).append(entry)
        for (dataset, part), chosen in sorted(groups.items(), key=lambda group: group[0][0]):
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
    rows, known = [], PROFILES.get(contents.profile())
    for key, values in _by_value(contents.settings).items():
        shown = "; ".join(f"{value} ({', '.join(stages)})" for value, stages in values.items())
        value = next(iter(values)) if len(values) == 1 else shown
        usual = plain(getattr(known, key, ""))
        rows.append({"setting": key, "in this run": value, "in the profile": "" if value == usual else usual})
    return rows


def versions(contents: Contents) -> dict[str, str]:
    """Versions of the packages; several where the stages differ."""
    found = _by_value({name: record.get("versions") or {} for name, record in contents.stages.items()})
    return {package: ", ".join(numbers) for package, numbers in found.items()}


def plain(value) -> str:
    """A setting as text, the same for a tuple and the list that json makes of it."""
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _by_value(records):
    """{key: {value: stages that have it}} of {stage: {key: value}}."""
    found = {}
    for stage, record in records.items():
        for key, value in record.items():
            found.setdefault(str(key), {}).setdefault(plain(value), []).append(stage)
    return found


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
    """The content of a file, and nothing where it is missing; what cannot be read is a problem."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, wanted):
            return content
        found = f"a {type(content).__name__}"
    except FileNotFoundError:
        return wanted()
    except (OSError, ValueError) as error:
        found = str(error)
    contents.problems.append(f"{path}: expected a json {wanted.__name__}, found {found}; run the notebook again")
    return wanted()
