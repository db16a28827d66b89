"""The report as a folder of pages that need no server and no network, and can be zipped and sent as it is."""

import re
import shutil
from pathlib import Path

from bs4 import BeautifulSoup
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from fusionlib.experiments.suite import EXPORTED
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import write_atomically
from fusionlib.viewer.report import cells, contents
from fusionlib.visualization.table_export import CSS

INDEX = "index.html"
FIGURES = "figures"  # folder of the run, and of the report
MARK = '<meta name="generator" content="fusionlib report">'  # what tells a report from somebody else's folder


def write_report(folder: str | Path, out: str | Path = "", problems: list[str] | None = None) -> Path:
    """Write the report of a run: index.html, a page for each notebook, and tables and figures as files.

    Args:
        folder: of the run, with the executed notebooks, such as data/runs/quick.
        out: a new or empty folder, or one with an earlier report, whose pages are replaced; empty: <folder>/report.
        problems: a list that gets a sentence for each file that could not be shown.

    Returns:
        The path of index.html.

    Raises:
        FusionError: no executed notebook in the folder, an `out` that holds something else, or that cannot be written.
    """
    run = contents.read(folder)
    out = Path(out).expanduser() if out else run.folder / "report"
    try:
        _write(run, out)
    except OSError as error:
        raise FusionError(f"{error.filename or out}: expected a folder to write the report to, found one that refuses "
                          f"({error.strerror}); give another one with --out") from None
    finally:
        if problems is not None:
            problems += run.problems
    return out / INDEX


def _write(run, out):
    _clear(out)
    shown = [notebook for notebook in run.notebooks if notebook.content]
    environment = Environment(
        loader=FileSystemLoader(cells.TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"duration": _duration, "plain": contents.plain}
    environment.globals |= {
        "run": run, "title": f"Run {run.folder.resolve().name}", "shown": shown, "index": INDEX, "mark": Markup(MARK),
        "style": Markup("\n".join(f"{selector} {{ {properties} }}" for selector, properties in CSS)),
    }  # fmt: skip
    paths = sorted(path for path in (run.folder / FIGURES).glob("*") if path.suffix in (".png", ".html"))
    page = environment.get_template("index.html.j2").render(
        exhibits=[exhibit for path in paths if (exhibit := _exhibit(run, path, out))],
        data=contents.data_rows(run), settings=contents.settings_rows(run), versions=contents.versions(run),
    )  # fmt: skip
    write_atomically(out / INDEX, page.encode())
    parts = environment.get_template("parts.html.j2").module
    for notebook in shown:
        top = parts.top(notebook, cells.sections(notebook.content))
        page = cells.page(notebook.content, f"{notebook.title}, {run.folder.resolve().name}", parts.head(), top)
        write_atomically(out / f"{notebook.name}.html", page.encode())


def _clear(out):
    """Make the folder, and remove what an earlier report wrote into it; anybody's other files stay."""
    if (out / INDEX).is_file() and MARK in (out / INDEX).read_text(encoding="utf-8", errors="replace"):
        for path in out.glob(f"{contents.NUMBERED}.html"):
            path.unlink()
        shutil.rmtree(out / FIGURES, ignore_errors=True)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FusionError(f"{out}: expected a new or empty folder, or one with an earlier report, found another one; "
                          "give another one with --out")
    (out / FIGURES).mkdir(parents=True)
    write_atomically(out / INDEX, MARK.encode())  # so that after an interrupt the folder is known as a report


def _exhibit(run, path, out):
    """What is shown of a figure (png) or table (html), whose files are copied; None where it cannot be read."""
    try:
        if path.suffix == ".png":
            with Image.open(path) as picture:
                picture.load()
            shown = {"width": picture.width, "height": picture.height}
        else:
            table = BeautifulSoup(path.read_text(encoding="utf-8", errors="replace"), "html.parser").table
            if table is None:
                raise ValueError("none")
            shown = {"html": cells.harmless(str(table))}
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises each of them for broken files
        kind = "picture" if path.suffix == ".png" else "page with a table"
        run.problems.append(f"{path}: expected a {kind}, found {error}; run its notebook again")
        return None
    files = [file for suffix in EXPORTED if (file := path.with_suffix(suffix)).is_file()]
    for file in files:
        shutil.copy(file, out / FIGURES / file.name)
    return shown | {
        "title": _title(path.stem[2:]) or path.stem,
        "notebook": next((n for n in run.notebooks if n.name[:2] == path.name[:2]), None),
        "about": run.about(path.name[:2]),
        "files": [(file.suffix[1:], f"{FIGURES}/{file.name}") for file in files],
    }


def _title(name):
    """A file name as a heading: _table5_Phantom is Table 5 Phantom."""
    words = re.sub(r"(?<=[a-z])(?=\d)", " ", name.replace("_", " ")).strip()
    return words[:1].upper() + words[1:]


def _duration(seconds):
    if not isinstance(seconds, (int, float)) or not seconds >= 0:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
