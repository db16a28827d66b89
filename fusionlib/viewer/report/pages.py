"""Write the report: a folder of pages that need no server or network and can be zipped and sent."""

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
MARK = '<meta name="generator" content="fusionlib report">'  # distinguishes a report from other folders with an index


def write_report(folder: str | Path, out: str | Path = "", problems: list[str] | None = None) -> Path:
    """Write the report of a run: index.html, a page for each notebook, and tables and figures as files.

    Args:
        folder: of the run, with the executed notebooks, such as data/runs/quick.
        out: a new or empty folder, or an earlier report, which is replaced; empty: <folder>/report.
        problems: a list to which a sentence is added for each file that could not be shown.

    Returns the path of index.html. Raises FusionError for a folder without executed notebooks, and for an `out` that
    holds other files or cannot be written.
    """
    run = contents.read(folder)
    out = Path(out).expanduser() if out else run.folder / "report"
    try:
        _write(run, out)
    except OSError as error:
        raise FusionError(f"{error.filename or out}: expected a folder to write the report to, found that it cannot be "
                          f"written ({error.strerror}); give another one with --out") from None
    finally:
        if problems is not None:
            problems += run.problems
    return out / INDEX


def _write(run, out):
    _clear(out)
    shown = [notebook for notebook in run.notebooks if notebook.content]
    environment = Environment(loader=FileSystemLoader(cells.TEMPLATES), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"duration": _duration, "plain": contents.plain}
    environment.globals |= {
        "run": run, "title": f"Run {run.folder.resolve().name}", "shown": shown, "index": INDEX, "mark": Markup(MARK),
        "style": Markup("\n".join(f"{selector} {{ {properties} }}" for selector, properties in CSS)),
    }
    paths = sorted(path for path in (run.folder / FIGURES).glob("*") if path.suffix in (".png", ".html"))
    page = environment.get_template("index.html.j2").render(
        exhibits=[exhibit for path in paths if (exhibit := _exhibit(run, path, out))],
        data=contents.data_rows(run), settings=contents.settings_rows(run),
        versions={package: list(values) for package, values in contents.by_value(run, "versions").items()})
    write_atomically(out / INDEX, page.encode())
    macros = environment.get_template("parts.html.j2").module
    for notebook in shown:
        top = macros.top(notebook, cells.sections(notebook.content))
        page = cells.page(notebook.content, f"{notebook.title}, {run.folder.resolve().name}", macros.head(), top)
        write_atomically(out / f"{notebook.name}.html", page.encode())


def _clear(out):
    """Create the folder, or remove the files of an earlier report from it."""
    if (out / INDEX).is_file() and MARK in (out / INDEX).read_text(encoding="utf-8", errors="replace"):
        for path in out.glob(f"{contents.NUMBERED}.html"):
            path.unlink()
        shutil.rmtree(out / FIGURES, ignore_errors=True)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FusionError(f"{out}: expected a new or empty folder, or one with an earlier report, found other files; "
                          "give another one with --out")
    (out / FIGURES).mkdir(parents=True)
    write_atomically(out / INDEX, MARK.encode())  # an interrupted report is recognised, too


def _exhibit(run, path, out):
    """Copy the files of a figure (png) or table (html) and return what the page shows; None if it cannot be read."""
    try:
        if path.suffix == ".png":
            with Image.open(path) as image:
                image.load()
            content = {"width": image.width, "height": image.height}
        elif table := BeautifulSoup(path.read_text(encoding="utf-8", errors="replace"), "html.parser").table:
            content = {"html": cells.sanitize(str(table))}
        else:
            raise ValueError("none")
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises all three for damaged files
        expected = "png image" if path.suffix == ".png" else "page with a table"
        run.problems.append(f"{path}: expected a {expected}, found {error}; run its notebook again")
        return None
    files = [file for suffix in EXPORTED if (file := path.with_suffix(suffix)).is_file()]
    for file in files:
        shutil.copy(file, out / FIGURES / file.name)
    return content | {
        "title": _title(path.stem[2:]) or path.stem, "about": run.about(path.name[:2]),
        "notebook": next((n for n in run.notebooks if n.name[:2] == path.name[:2]), None),
        "files": [(file.suffix[1:], f"{FIGURES}/{file.name}") for file in files],
    }


def _title(name):
    """Turn a file name into a heading: _table5_Phantom becomes Table 5 Phantom."""
    words = re.sub(r"(?<=[a-z])(?=\d)", " ", name.replace("_", " ")).strip()
    return words[:1].upper() + words[1:]


def _duration(seconds):
    if not isinstance(seconds, (int, float)) or not seconds >= 0:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
