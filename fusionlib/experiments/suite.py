"""Batch execution of the notebooks: `python -m fusionlib run`."""

import ast
import contextlib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import fusionlib
from fusionlib.config import PROFILES, Profile, checked
from fusionlib.experiments import inputs
from fusionlib.experiments.lookahead import look_ahead
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import absolute, load_json, write_json
from fusionlib.utils.locks import folder_lock

if TYPE_CHECKING:
    import pandas as pd

NOTEBOOKS = fusionlib.ROOT / "notebooks"
TIME_LIMIT = {"quick": 900, "small": 5400, "shipped": 14400, "paper": 14 * 86400}  # seconds for one cell
PLACES = ("ir", "visible", "labels")  # parameters of notebook 01
ARGUMENTS = ("profile", "data_root", "out")  # parameters of the notebooks that `run` sets by its own
WEIGHTS = ("detector", "held_out_detector")  # names, or paths
PROFILE_SETTINGS = {field.name for field in fields(Profile)[1:]}  # without its name


def run(profile: str = "quick", data_root: str = "", only: Sequence[str] = (), settings: dict | None = None,
        out: str = "") -> "pd.DataFrame":
    """Execute the notebooks in order; the executed copies are written to the run's folder.

    What they need is looked for first. Each notebook loads the results that are finished for the same fingerprint, so a
    second run is quick.

    Args:
        profile: quick, small or paper.
        data_root: folder with the data sets; empty: the embedded scenes or data/.
        only: numbers of the notebooks to run, such as ("02", "04"); empty: all.
        settings: values for the notebooks' parameters cells; `PLACES` among them, and paths of weights, are relative to
            the working folder, as are `data_root` and `out`.
        out: folder of the run; empty: data/runs/<profile>.

    Returns:
        One row per notebook: state ("done", "failed" or "not run"), seconds, peak memory in MiB, and the message of the
        cell that failed, or what was not as expected (see `checks.expect`). After a failure the remaining notebooks are
        not run.

    Raises:
        FusionError: unknown profile, notebook or setting, a value that a setting cannot have, something that the
            notebooks need is missing, or another process works in the folder.
    """
    notebooks = {path.name[:2]: path for path in select(only)}
    settings, folder, rows = settings_of(profile, data_root, out, settings), inputs.run_folder(profile, out), []
    values = {name: value for name, value in settings.items() if name in PROFILE_SETTINGS}
    outlook = look_ahead(inputs.checked_profile(profile, **values), folder, data_root, notebooks,
                         [settings[name] for name in PLACES if settings.get(name)])  # fmt: skip
    print(outlook.sentence, flush=True)
    import pandas as pd  # this and papermill take seconds to import, and what is missing is said before

    from fusionlib.experiments.execution import execute
    from fusionlib.experiments.progress import Progress

    progress = Progress({notebooks[number].stem: seconds for number, seconds in outlook.seconds.items()})
    with folder_lock(folder), contextlib.closing(progress):
        for notebook in notebooks.values():
            if rows and rows[-1]["state"] != "done":
                rows.append({"notebook": notebook.stem, "state": "not run", "message": ""})
                continue
            names = PROFILE_SETTINGS.union(parameters(notebook))
            given = {name: value for name, value in settings.items() if name in names}
            rows.append(execute(notebook, folder / notebook.name, given, TIME_LIMIT[profile], progress))
            write_json(folder / "summary.json", rows)
    return pd.DataFrame(rows, columns=["notebook", "state", "seconds", "peak MiB", "message"])


def select(only: Sequence[str]) -> list[Path]:
    """The notebooks with these numbers, in order; without numbers, all of them."""
    notebooks = {path.name[:2]: path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}
    if not notebooks:
        raise FusionError(f"no notebooks in {NOTEBOOKS}: an installed package has none of them, so get the checkout "
                          "(git clone) and run in its folder")
    if unknown := [number for number in only if number not in notebooks]:
        stems = ", ".join(path.stem for path in notebooks.values())
        raise FusionError(f"no notebook has the number {', '.join(unknown)}; there are {stems}")
    return [path for number, path in notebooks.items() if not only or number in only]


def parameters(notebook: Path) -> dict:
    """Names and defaults in the parameters cell of a notebook."""
    cells = load_json(notebook, "a notebook", "get it again")["cells"]
    source = next(("".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", [])), "")
    nodes = [n for n in ast.parse(source).body if isinstance(n, ast.Assign)]
    return {target.id: ast.literal_eval(node.value) for node in nodes for target in node.targets}


def settings_of(profile: str, data_root: str = "", out: str = "", settings: dict | None = None) -> dict:
    """Values for the parameters cells, from the arguments of `run`; FusionError for an unknown profile or setting.

    Paths become absolute, since notebooks run in their own folder.
    """
    if profile not in PROFILES:
        raise FusionError(f"profile must be one of {', '.join(PROFILES)}, but is {profile!r}")
    settings = dict(settings or {})
    defaults = {name: value for notebook in select(()) for name, value in parameters(notebook).items()}
    names = PROFILE_SETTINGS.union(defaults) - set(ARGUMENTS)  # of all notebooks: it is repeated with fewer of them
    if unknown := [name for name in settings if name not in names]:
        raise FusionError(f"no notebook has the parameter {', '.join(unknown)}; there are {', '.join(sorted(names))}")
    for name, value in settings.items():
        if name in defaults and name not in PROFILE_SETTINGS:
            settings[name] = checked(name, value, type(defaults[name]))
        if value and (name in PLACES or (name in WEIGHTS and Path(str(value)).expanduser().is_file())):
            settings[name] = str(absolute(str(value)))
    settings |= {name: str(absolute(place)) for name, place in {"data_root": data_root, "out": out}.items() if place}
    settings |= {} if profile == "quick" else {"profile": profile}
    values = {name: value for name, value in settings.items() if name in PROFILE_SETTINGS}
    inputs.checked_profile(profile, **values)  # before anything is run
    return settings
