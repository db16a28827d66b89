"""Collect what a report shows of a run, which may be incomplete: its notebooks, data, settings and versions."""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import fastjsonschema
import nbformat
from nbformat import NotebookNode

from fusionlib.config import PROFILES
from fusionlib.data.splits import SPLITS
from fusionlib.experiments.inputs import run_folder
from fusionlib.utils.errors import FusionError, first_line
from fusionlib.utils.files import below, load_json, read_text
from fusionlib.utils.terminal import command_line

NUMBERED = "[0-9][0-9]_*"
SYNTHETIC = {"Scenes": "Scenes (synthetic)", "Phantom": "Phantom (synthetic)"}  # data sets that fusionlib renders
_OBJECT, _LIST = {"type": ["object", "null"]}, {"type": ["array", "null"]}
_SIZE = _LIST | {"items": {"type": "number"}, "minItems": 2, "maxItems": 2}
_ENTRY = {"type": "object", "properties": {"size": _SIZE, "classes": _LIST | {"items": {"type": "string"}}}}
_check_summary = fastjsonschema.compile({"type": "array", "items": {"type": "object", "required": ["notebook"]}})
_check_record = fastjsonschema.compile({"type": "object", "properties": {
    key: _OBJECT for key in ("profile", "inputs", "versions", "facts")}})  # fmt: skip
_check_manifest = fastjsonschema.compile({"type": "object", "properties": {
    **{split: {"type": "array", "items": _ENTRY} for split in SPLITS}, "left_out": _LIST}})  # fmt: skip


@dataclass(frozen=True)
class Notebook:
    """A notebook of the run."""

    name: str
    state: str
    seconds: float | None
    peak: float | None  # MiB of memory
    message: str
    date: str
    content: NotebookNode | None  # None if the executed copy is missing or unreadable

    @property
    def title(self) -> str:
        """The first heading of the notebook without its number, or else its name."""
        cells = self.content.cells if self.content else []
        source = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        heading = re.search(rf"^# (?:{re.escape(self.name[:2])})?[ _]*(.*\S)", source, re.MULTILINE)
        return heading[1] if heading else self.name

    @property
    def has_error(self) -> bool:
        """Whether a cell failed. A notebook can also be stopped from outside."""
        return any(output.output_type == "error" for cell in self.content.cells for output in cell.get("outputs", ()))


@dataclass
class Contents:
    """What a run recorded, in the order of the notebooks."""

    folder: Path
    notebooks: list[Notebook] = field(default_factory=list)
    stages: dict[str, dict] = field(default_factory=dict)  # {folder: provenance record, {} while unfinished}
    manifests: dict[str, dict] = field(default_factory=dict)  # {name of the notebook that wrote it: manifest}
    problems: list[str] = field(default_factory=list)  # a sentence for each unreadable file

    def profile(self, number: str = "") -> str:
        """Name of the profile, that of the notebook with this number if it recorded one."""
        names = {stage: str(record["profile"]["name"]) for stage, record in self.stages.items()
                 if (record.get("profile") or {}).get("name")}
        return [*(name for stage, name in names.items() if stage[:2] == number), *names.values(), self.folder.name][0]

    def datasets(self, number: str = "") -> str:
        """Names of a notebook's data sets, from its own manifest or else that of notebook 01."""
        manifests = [m for name, m in self.manifests.items() if name[:2] == number] or [*self.manifests.values()][:1]
        names = {str(entry.get("dataset")) for m in manifests for split in SPLITS for entry in m.get(split, ())}
        return ", ".join(SYNTHETIC.get(name, name) for name in sorted(names))

    @property
    def feedback(self) -> str:
        """The model that gave the feedback, as recorded by notebook 03; empty if it did not run."""
        models = [(record.get("inputs") or {}).get("model") for name, record in self.stages.items() if name[:2] == "03"]
        return str(next(filter(None, models), ""))

    def about(self, number: str = "") -> str:
        """Profile and data sets of a notebook's figures and tables, in one line."""
        return f"profile {self.profile(number)}, {self.datasets(number) or 'data not recorded'}"


def read(folder: str | Path) -> Contents:
    """Read the folder of a run. Raises FusionError if it holds no executed notebook."""
    contents = Contents(Path(folder).expanduser())
    files = {path.stem: path for path in sorted(contents.folder.glob(f"{NUMBERED}.ipynb"))}
    if not files:
        name = contents.folder.name
        given = {"profile": name} if contents.folder == run_folder(name) else {"out": contents.folder}
        raise FusionError(f"{contents.folder}: expected the executed notebooks of a run, found none; make them with "
                          f"{command_line('run', **given)}, or give the folder of another run with --run")
    summary = _json(contents, contents.folder / "summary.json", _check_summary)
    rows = {str(row["notebook"]): row for row in summary or ()}
    for name in sorted(files.keys() | rows.keys()):
        contents.notebooks.append(_notebook(contents, name, files.get(name), rows.get(name, {})))
    for path in sorted(contents.folder.rglob("fingerprint.json")):
        name = path.parent.relative_to(contents.folder).as_posix()
        if "@" not in name:  # name@fingerprint: results made with other settings
            contents.stages[name] = _json(contents, path.with_name("provenance.json"), _check_record) or {}
    for path in sorted(contents.folder.glob(f"{NUMBERED}/**/manifest.json")):
        name = path.relative_to(contents.folder)
        if "@" not in str(name) and (manifest := _json(contents, path, _check_manifest)):
            contents.manifests[name.parts[0]] = manifest
    return contents


def data_rows(contents: Contents) -> list[dict]:
    """One row per data set and split of each manifest, with the numbers of pairs, scenes and labels.

    A pair of an unknown scene counts as a scene of its own.
    """
    rows = []
    for name, manifest in contents.manifests.items():
        groups = {}
        for split in SPLITS:
            for entry in manifest.get(split, ()):
                groups.setdefault((str(entry.get("dataset")), split), []).append(entry)
        for (dataset, split), entries in sorted(groups.items(), key=lambda group: group[0][0]):
            labels = Counter(label for entry in entries for label in entry.get("classes") or ())
            sizes = sorted({tuple(entry["size"]) for entry in entries if entry.get("size")}, key=lambda s: s[0] * s[1])
            rows.append({
                "data set": SYNTHETIC.get(dataset, dataset), "split": split, "pairs": len(entries),
                "scenes": len({str(entry.get("scene") or index) for index, entry in enumerate(entries)}),
                "labelled": sum(entry.get("boxes") is not None for entry in entries),
                "labels": ", ".join(f"{count} {label}" for label, count in labels.most_common()),
                "width x height": " to ".join(f"{w}x{h}" for h, w in (sizes[:1] + sizes[1:][-1:])),
                "selected by": name,
            })
    return rows


def settings_rows(contents: Contents) -> list[dict]:
    """One row per setting: its value, or that of each stage where they differ."""
    rows = []
    for key, values in by_value(contents, "profile").items():
        each = "; ".join(f"{value} ({', '.join(stages)})" for value, stages in values.items())
        rows.append({"setting": key, "in this run": next(iter(values)) if len(values) == 1 else each})
    return rows


def changed_rows(contents: Contents) -> list[dict]:
    """One row per setting that the user gave to notebooks of the run, by --set, and that is not the profile's value."""
    profile, given = PROFILES.get(contents.profile()), {}
    for notebook in contents.notebooks:
        parameters = _papermill(notebook.content).get("parameters")
        for key, value in parameters.items() if isinstance(parameters, dict) else ():
            if hasattr(profile, key) and plain(value) != plain(getattr(profile, key)) and key != "name":
                given.setdefault(key, {}).setdefault(plain(value), []).append(notebook.name)
    return [{"setting": key, "given": value, "in the profile": plain(getattr(profile, key)),
             "notebooks": ", ".join(names)}
            for key, values in given.items() for value, names in values.items()]


def by_value(contents: Contents, name: str) -> dict[str, dict[str, list[str]]]:
    """Compare "profile" or "versions" of the stages: {key: {value as text: stages with this value}}."""
    grouped = {}
    for stage, record in contents.stages.items():
        for key, value in (record.get(name) or {}).items():
            grouped.setdefault(str(key), {}).setdefault(plain(value), []).append(stage)
    return grouped


def plain(value) -> str:
    """A setting as text, the same for a tuple and the list that JSON makes of it."""
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def own(run: Contents, path: Path) -> Path:
    """A file of the run; FusionError for a link that leads out of it, because a report is sent to others."""
    return below(run.folder, path.relative_to(run.folder), links=False)


def problem(path: Path, wanted: str, error: Exception) -> str:
    """The sentence on a file that could not be read."""
    if isinstance(error, FusionError):
        return str(error)
    return f"{path}: expected {wanted}, found {first_line(error)[:200]}; run its notebook again"


def _notebook(contents, name, path, row):
    content = None
    if path:
        try:
            text = read_text(own(contents, path), "an executed notebook", "run it again")
            content = nbformat.reads(text, as_version=4)
            nbformat.validate(content)
        except Exception as error:  # nbformat raises many types for a damaged file
            content = None
            contents.problems.append(problem(path, "an executed notebook", error))
    record = _papermill(content)  # used where the summary has no row
    state = row.get("state") or ("failed" if record.get("exception") or not content else "done")
    seconds, date = row.get("seconds", record.get("duration")), str(record.get("end_time") or "")[:16].replace("T", " ")
    return Notebook(name, str(state), seconds, row.get("peak MiB"), str(row.get("message") or ""), date, content)


def _papermill(content):
    """What papermill has recorded in a notebook; {} if nothing."""
    record = content.metadata.get("papermill") if content else None
    return record if isinstance(record, dict) else {}


def _json(contents, path, check):
    """Read a JSON file; None if it is missing, or damaged, which is a problem."""
    try:
        return load_json(own(contents, path), "a record", "run its notebook again", check) if path.exists() else None
    except FusionError as error:
        contents.problems.append(str(error))
        return None
