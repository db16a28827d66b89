"""The report as a folder of pages that need no server and no network, and can be zipped and sent as it is."""

import base64
import hashlib
import io
import re
import shutil
from pathlib import Path

from bs4 import BeautifulSoup
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import write_atomically
from fusionlib.viewer.report import cells, contents

INDEX = "index.html"
FIGURES, PREVIEWS = "figures", "previews"  # folders of the report, beside `cells.PICTURES`
MARK = '<meta name="generator" content="fusionlib report">'  # what tells a report from somebody else's folder
PREVIEW = (1000, 1000)  # pixels; previews are shown at half of it at most


def write_report(folder: str | Path, out: str | Path = "", problems: list[str] | None = None) -> Path:
    """Write the report of a run: index.html, a page for each notebook, and their pictures, tables and figures as files.

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
        return _write(run, out)
    except OSError as error:
        raise FusionError(f"{error.filename or out}: expected a folder to write the report to, found one that refuses "
                          f"({error.strerror}); give another one with --out") from None
    finally:
        if problems is not None:
            problems += run.problems


def _write(run, out):
    _clear(out)
    for name in (FIGURES, PREVIEWS, cells.PICTURES):
        (out / name).mkdir(parents=True)
    figures = [shown for path in run.figures if (shown := _figure(run, path, out))]
    tables = [shown for path in run.tables if (shown := _table(run, path, out))]
    environment = _environment()
    shared = {
        "run": run,
        "title": f"Run {run.folder.resolve().name}",
        "links": {n.name: f"{n.name}.html" for n in run.notebooks if n.content},
        "index": INDEX,
    }
    environment.globals.update(shared)
    page = environment.get_template("index.html.j2").render(
        figures=figures, tables=tables, data=contents.data_rows(run), settings=contents.settings_rows(run),
        versions=contents.versions(run),
    )  # fmt: skip
    write_atomically(out / INDEX, page.encode())
    shown = [notebook for notebook in run.notebooks if notebook.content]
    for index, notebook in enumerate(shown):
        about = run.about(notebook.name[:2])
        body, sections, pictures = cells.body(notebook.content, index, notebook.name, about)
        for name, data in pictures.items():
            write_atomically(out / name, data)
        page = environment.get_template("notebook.html.j2").render(
            notebook=notebook, about=about, body=body, sections=sections,
            before=shown[index - 1] if index else None, after=(shown[index + 1 :] or [None])[0],
        )  # fmt: skip
        write_atomically(out / f"{notebook.name}.html", page.encode())
    return out / INDEX


def _clear(out):
    """Make the folder, and remove what an earlier report wrote into it; anybody's other files stay."""
    if (out / INDEX).is_file() and MARK in (out / INDEX).read_text(encoding="utf-8", errors="replace"):
        for path in out.glob(f"{contents.NUMBERED}.html"):
            path.unlink()
        for name in (FIGURES, PREVIEWS, cells.PICTURES):
            shutil.rmtree(out / name, ignore_errors=True)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FusionError(f"{out}: expected a new or empty folder, or one with an earlier report, found another one; "
                          "give another one with --out")
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / INDEX, MARK.encode())  # so that after an interrupt the folder is known as a report


def _figure(run, path, out):
    """Copy a figure and make its preview."""
    preview = out / PREVIEWS / f"{path.stem}.webp"
    try:
        with Image.open(path) as picture:
            size = picture.size
            picture = picture.convert("RGB")
            picture.thumbnail(PREVIEW)
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", quality=82)
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises each of them for broken files
        run.problems.append(f"{path}: expected a picture, found {error}; run its notebook again")
        return None
    write_atomically(preview, buffer.getvalue())
    return _exhibit(run, path, out, (".png", ".pdf")) | {
        "preview": f"{PREVIEWS}/{preview.name}", "width": picture.width, "height": picture.height, "size": size}


def _table(run, path, out):
    """Copy a table; what is shown of it is the table itself and its style."""
    soup = BeautifulSoup(cells.harmless(path.read_text(encoding="utf-8", errors="replace")), "html.parser")
    if soup.table is None:
        run.problems.append(f"{path}: expected a page with a table, found none; run its notebook again")
        return None
    style = soup.body.style if soup.body else None
    return _exhibit(run, path, out, (".html", ".csv", ".tex")) | {"html": Markup(f"{style or ''}{soup.table}")}


def _exhibit(run, path, out, suffixes):
    files = [file for suffix in suffixes if (file := path.with_suffix(suffix)).is_file()]
    for file in files:
        shutil.copy(file, out / FIGURES / file.name)
    number = path.name[:2]
    return {
        "name": path.stem,
        "title": _title(path.stem.removeprefix(number)) or path.stem,
        "notebook": next((n for n in run.notebooks if n.name[:2] == number), None),
        "about": run.about(number),
        "files": [(file.suffix[1:], f"{FIGURES}/{file.name}", file.stat().st_size) for file in files],
    }


def _title(name):
    """A file name as a heading: _table5_Phantom is Table 5 Phantom."""
    words = re.sub(r"(?<=[a-z])(?=\d)", " ", name.replace("_", " ")).strip()
    return words[:1].upper() + words[1:]


def _environment():
    environment = Environment(
        loader=FileSystemLoader(cells.TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"duration": _duration, "bytes": _bytes, "plain": contents._plain}
    script = (cells.TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals |= {
        "mark": Markup(MARK), "script": Markup(script), "digest": digest,
        "style": Markup((cells.TEMPLATES / "report.css").read_text(encoding="utf-8")),
    }  # fmt: skip
    return environment


def _duration(seconds):
    if not isinstance(seconds, (int, float)) or not seconds >= 0:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _bytes(count):
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{max(1, round(count / 1e3))} kB"
