"""The gallery of a run: its pairs with the results of notebooks 02 to 05, and notes on the results that are missing."""

from pathlib import Path

from fusionlib.data.datasets import people
from fusionlib.data.pairs import Pair
from fusionlib.experiments.folders import find
from fusionlib.experiments.run import Run
from fusionlib.feedback import querying
from fusionlib.feedback.store import Answer, open_store
from fusionlib.inference.network import image_path
from fusionlib.utils.errors import FusionError
from fusionlib.viewer.gallery import Entry, Gallery

CONVENTION = "vifb"  # of the metrics, as in the tables
RESULTS = {
    "02_fusion_network": "fused images", "03_mllm_feedback": "answers",
    "04_text_dfh": "refined images, instructions or attention maps of words",
}


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run whose notebook 01 is done."""
    return all((folder / "01_data" / name).is_file() for name in ("manifest.json", "provenance.json"))


def from_run(run: Run) -> Gallery:
    """All pairs of a run, test pairs first, each with the images, answer and metrics found on disk.

    Raises FusionError if the pairs of the manifest are not below the run's data root.
    """
    from fusionlib.experiments.methods import OURS, OURS_STAGE_1  # imports the training code

    try:
        split = run.split
    except FusionError as error:
        raise FusionError(f"{error}; if the data sets have been moved, give their folder as data_root=") from None
    pairs = split["test"] + split["train"]
    methods = sorted(path.parent.name for path in run.folder.glob("methods/*/fused"))
    methods = [method for method in methods if "@" not in method]  # name@fingerprint: made with other settings
    method_of = {"fused": OURS_STAGE_1, "refined": OURS} | {m: m for m in methods if m not in (OURS_STAGE_1, OURS)}
    folders = {pane: [run.folder / "methods" / method / "fused"] for pane, method in method_of.items()}
    for pane, stage in (("fused", "02_fusion_network"), ("refined", "04_text_dfh")):
        folders[pane].insert(0, find(find(run.folder / stage, None) / "fused", None))
    notes = [f"No {results} yet: run notebook {stage[:2]}." for stage, results in RESULTS.items()
             if not (run.folder / stage / "provenance.json").is_file()]
    if not methods:
        notes.append("No images of other methods yet: run notebook 05.")
    answers = _answers(run, pairs, notes)
    entries = []
    for pair in pairs:
        images = {"infrared": pair.ir, "visible": pair.visible}
        for pane, candidates in folders.items():
            if files := [path for folder in candidates if (path := image_path(folder, pair)).is_file()]:
                images[pane] = files[0]
        truth = None if pair.boxes is None else people(pair).numpy()
        metrics = {pane: values for pane, method in method_of.items() if (values := _metrics(run, method, pair))}
        group = " ".join(filter(None, (pair.dataset, pair.split)))
        answer = answers.get(pair.label)
        entries.append(Entry(pair.label, group, images, truth, answer, metrics, ir_range=pair.ir_range))
    panes = list(dict.fromkeys(pane for entry in entries for pane in entry.images))
    return Gallery(run.folder.name, entries, panes, notes, ("infrared", "visible"), run.figures)


def _metrics(run: Run, method: str, pair: Pair) -> dict[str, float]:
    """Metrics of an image that notebook 05 has recorded; empty without a readable record."""
    from fusionlib.experiments.results import read_record  # as above

    record = read_record(run.folder / "methods" / method, pair.label) or {"metrics": {}}
    return record["metrics"].get(CONVENTION, {"values": {}})["values"]


def _answers(run: Run, pairs: list[Pair], notes: list[str]) -> dict[str, Answer]:
    path = run.folder / "03_mllm_feedback" / "assigned.json"
    if not path.exists():
        return {}
    try:
        assigned = querying.read_keys(path)
        labels = [pair.label for pair in pairs if pair.label in assigned]
        return dict(zip(labels, querying.read_assignment(path, open_store(run.folder / "answers"), labels)))
    except FusionError as error:  # the images can be viewed without answers
        notes.append(f"The answers could not be read: {error}")
        return {}
