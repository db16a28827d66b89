"""The gallery of a run: its pairs, whatever notebooks 02 to 05 have made of them, and what they have not."""

import json
from pathlib import Path

from fusionlib.data.datasets import people
from fusionlib.data.pairs import Pair
from fusionlib.data.splits import read_manifest
from fusionlib.experiments.run import Run
from fusionlib.feedback import querying
from fusionlib.feedback.store import Answer, open_store
from fusionlib.inference.network import image_path
from fusionlib.utils.errors import FusionError
from fusionlib.viewer.gallery import Entry, Gallery

CONVENTION = "vifb"  # of the metrics that are shown, which is the one of the tables
FUSED, REFINED = "fused", "refined"


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run whose pairs are chosen."""
    return (folder / "01_data" / "manifest.json").is_file() and (folder / "01_data" / "provenance.json").is_file()


def of_run(run: Run) -> Gallery:
    """All pairs of a run, test pairs first, each with the images, answer and metrics that are on disk.

    Raises:
        FusionError: the pairs of the manifest are not below the run's data root.
    """
    try:
        split = read_manifest(run.folder / "01_data" / "manifest.json", run.data_root)
    except FusionError as error:
        raise FusionError(f"{error}; where the data sets lie elsewhere, say so with data_root=") from None
    pairs = split["test"] + split["train"]
    methods = _methods(run)
    notes = _notes(run, methods)
    answers = _answers(run, pairs, notes)
    entries = []
    for pair in pairs:
        images = {"infrared": pair.ir, "visible": pair.visible} | _made(run, methods, pair)
        truth = None if pair.boxes is None else people(pair).numpy()
        metrics = {pane: values for pane, name in _names(methods).items() if (values := _metrics(run, name, pair))}
        group = " ".join(filter(None, (pair.dataset, pair.split)))
        entries.append(Entry(pair.label, group, images, truth, answers.get(pair.label), metrics))
    panes = list(dict.fromkeys(pane for entry in entries for pane in entry.images))
    return Gallery(run.folder.name, entries, panes, notes, ("infrared", "visible"), run.figures)


def _methods(run: Run) -> list[str]:
    """Names of the compared methods that have results; what another fingerprint left behind (name@...) is passed by."""
    folders = sorted((run.folder / "methods").glob("*/fused"))
    return [folder.parent.name for folder in folders if "@" not in folder.parent.name]


def _names(methods: list[str]) -> dict[str, str]:
    """{pane: the method that its image is by}."""
    from fusionlib.experiments.methods import OURS, OURS_STAGE_1  # here, for all that trains comes with it

    others = [name for name in methods if name not in (OURS_STAGE_1, OURS)]
    return {FUSED: OURS_STAGE_1, REFINED: OURS} | {name: name for name in others}


def _made(run: Run, methods: list[str], pair: Pair) -> dict[str, Path]:
    """The images that were made of a pair: of a stage's own notebook, or as notebook 05 made them."""
    places = {FUSED: [run.folder / "02_fusion_network" / "fused"], REFINED: [run.folder / "04_text_dfh" / "fused"]}
    for pane, name in _names(methods).items():
        places.setdefault(pane, []).append(run.folder / "methods" / name / "fused")
    files = {pane: (image_path(folder, pair) for folder in folders) for pane, folders in places.items()}
    found = {pane: next(filter(Path.is_file, paths), None) for pane, paths in files.items()}
    return {pane: path for pane, path in found.items() if path}


def _metrics(run: Run, name: str, pair: Pair) -> dict[str, float]:
    """The metrics of an image as notebook 05 has kept them; none where it has not measured it."""
    try:
        text = (run.folder / "methods" / name / "results" / f"{pair.label}.json").read_text(encoding="utf-8")
        return json.loads(text)["metrics"][CONVENTION]["values"]
    except (OSError, ValueError, KeyError):
        return {}


def _answers(run: Run, pairs: list[Pair], notes: list[str]) -> dict[str, Answer]:
    path = run.folder / "03_mllm_feedback" / "assigned.json"
    if not path.is_file():
        return {}
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        labels = [pair.label for pair in pairs if pair.label in known]
        store = open_store(run.folder / "answers")
        return dict(zip(labels, querying.read_assignment(path, store, labels)))
    except (FusionError, ValueError) as error:  # the images can be looked at all the same
        notes.append(f"There are no answers: {error}")
        return {}


def _notes(run: Run, methods: list[str]) -> list[str]:
    missing = [
        ("02_fusion_network", "fused images", "02"), ("03_mllm_feedback", "answers", "03"),
        ("04_text_dfh", "refined images, instructions and attention of words", "04"),
    ]  # fmt: skip
    notes = [f"There are no {what} yet: notebook {number} makes them." for stage, what, number in missing
             if not (run.folder / stage / "provenance.json").is_file()]  # fmt: skip
    return notes if methods else [*notes, "There are no images of other methods yet: notebook 05 makes them."]
