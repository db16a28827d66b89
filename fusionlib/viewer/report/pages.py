"""Write the report: a folder of pages that need no server or network and can be zipped and sent."""

import math
import shutil
from pathlib import Path

from bs4 import BeautifulSoup
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from nbformat.v4 import new_notebook
from PIL import Image

from fusionlib.experiments.publishing import EXPORTED
from fusionlib.utils.errors import FusionError, encodable
from fusionlib.utils.files import read_text, require_regular_file, write_atomically
from fusionlib.viewer.report import cells, contents, headline
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
    out = Path(out).expanduser() if out else contents.own(run, run.folder / "report")
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
    macros = environment.get_template("parts.html.j2").module
    for notebook in shown:
        _write_page(out / f"{notebook.name}.html", _notebook(run, notebook, macros))
    paths = sorted(path for path in (run.folder / FIGURES).glob("*") if path.suffix in (".png", ".html"))
    exhibits = {path.stem: exhibit for path in paths if (exhibit := _exhibit(run, path, out))}
    figures = {stem: exhibit for stem, exhibit in exhibits.items() if "html" not in exhibit}
    page = environment.get_template("index.html.j2").render(
        exhibits=list(exhibits.values()), strip=next(filter(None, map(figures.get, headline.STRIPS)), None),
        data=contents.data_rows(run), settings=contents.settings_rows(run), changed=contents.changed_rows(run),
        numbers=headline.numbers(run.folder / FIGURES),
        versions={package: list(values) for package, values in contents.by_value(run, "versions").items()})
    _write_page(out / INDEX, page)


def _notebook(run, notebook, macros):
    """The page of a notebook, without its cells if they cannot be shown."""
    title = f"{notebook.title}, {run.folder.resolve().name}"
    try:
        top = macros.top(notebook, cells.sections(notebook.content))
        return cells.page(notebook.content, title, macros.head(), top)
    except Exception as error:  # nbconvert raises many types for contents that it does not expect
        run.problems.append(contents.problem(run.folder / f"{notebook.name}.ipynb", "an executed notebook", error))
        return cells.page(new_notebook(), title, macros.head(), macros.top(notebook, []))


def _write_page(path, page):
    write_atomically(path, encodable(page).encode())


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
    wanted, mend = "a png image" if path.suffix == ".png" else "a page with a table", "run its notebook again"
    try:
        files = [contents.own(run, file) for suffix in EXPORTED if (file := path.with_suffix(suffix)).is_file()]
        require_regular_file(path, wanted)
        if path.suffix == ".png":
            with Image.open(path) as image:
                content = {"width": image.width, "height": image.height}
                image.verify()  # checks the whole file, and decodes nothing
        elif table := BeautifulSoup(read_text(path, wanted, mend, headline.LONGEST_TABLE), "html.parser").table:
            said = table.caption.get_text(" ") if table.caption else ""
            content = {"html": cells.sanitize(str(table)), "title": headline.first_words(said)}
        else:
            raise ValueError("none")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow raises them all
        run.problems.append(contents.problem(path, wanted, error))
        return None
    for file in files:
        shutil.copy(file, out / FIGURES / file.name)
    return content | {
        "title": content.get("title") or headline.caption(path.stem), "about": run.about(path.name[:2]),
        "notebook": next((n for n in run.notebooks if n.name[:2] == path.name[:2]), None),
        "files": [(file.suffix[1:], f"{FIGURES}/{file.name}") for file in files],
    }


def _duration(seconds):
    if not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
