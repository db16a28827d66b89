"""An executed notebook as HTML: nbconvert does it, with our template, formulas as MathML, and pictures as files."""

import copy
from functools import cache
from pathlib import Path

from bs4 import BeautifulSoup
from latex2mathml.converter import convert
from markupsafe import Markup
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from traitlets.config import Config

from fusionlib.experiments.suite import WIDGET, shrink_picture

TEMPLATES = Path(__file__).parent / "templates"
PICTURES = "pictures"  # folder of the report for the pictures of its notebooks
ACTIVE = "script, iframe, frame, object, embed, applet, link, meta, base, form, svg, audio, video, template, noscript"
SHOWN = ["text/html", "text/markdown", "image/png", "image/jpeg", "text/plain"]  # the first of these that there is


class _Markdown(IPythonRenderer):
    """Markdown as JupyterLab shows it, but HTML in it is shown as text, and formulas need no script."""

    def inline_math(self, body):
        return _formula(body, "inline")

    def block_math(self, body):
        return _formula(body, "block")


def _formula(latex, display):
    try:
        return convert(latex, display=display)
    except Exception:  # the converter raises whatever the parser stumbles over; LaTeX can be read as it is, too
        return f"<code>{Markup.escape(latex)}</code>"


def harmless(html: str) -> Markup:
    """HTML without anything that runs, loads or sends: tables and text stay, and pictures that are in the page."""
    soup = BeautifulSoup(html, "html.parser")
    for element in soup.select(ACTIVE):
        element.decompose()
    for element in soup.find_all(True):
        for name, value in list(element.attrs.items()):
            address = "".join(str(value).split()).lower()
            loads = name in ("src", "srcset", "poster", "background", "data") and not address.startswith("data:image/")
            leads = name in ("href", "xlink:href", "action", "formaction") and not address.startswith(("#", "http"))
            if name.startswith("on") or loads or leads or "url(" in address:
                del element[name]
    for picture in soup.find_all("img", src=False):  # nothing is left of it
        picture.decompose()
    for style in soup.find_all("style"):
        if "url(" in style.text or "@import" in style.text:
            style.decompose()
    return Markup(soup)


def body(notebook: NotebookNode, index: int, name: str, about: str) -> tuple[Markup, list[tuple[str, str]], dict]:
    """The cells of a notebook as HTML.

    Args:
        notebook: as executed; it stays as it is.
        index: of the page, for the names of pictures.
        name: of the notebook, for the texts of pictures.
        about: what pictures and tables are of.

    Returns:
        The HTML, (anchor, text) of its sections, and {file name: bytes} of its pictures, relative to the report.
    """
    notebook = copy.deepcopy(notebook)
    notebook.cells = [c for c in notebook.cells if "papermill-error-cell-tag" not in c.metadata.get("tags", [])]
    section = name
    for cell in notebook.cells:
        section = next((line[3:] for line in cell.source.splitlines() if line.startswith("## ")), section)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
            for output in cell.outputs:
                shrink_picture(output.get("data", {}))
                output.setdefault("metadata", {}).pop("filename", None)  # names are ours: they become files
                output.metadata["alt"] = f"{section}, notebook {name}"
    resources = {"unique_key": f"{index:02d}", "output_files_dir": PICTURES, "about": about}
    html, resources = _exporter().from_notebook_node(notebook, resources)
    sections = [(h["id"], h.get_text().removesuffix("¶")) for h in BeautifulSoup(html, "html.parser").select("h2[id]")]
    return Markup(html), sections, {key.replace("\\", "/"): data for key, data in resources["outputs"].items()}


@cache
def _exporter():
    settings = Config()
    settings.ExtractOutputPreprocessor.enabled = True
    settings.ExtractOutputPreprocessor.extract_output_types = {"image/png", "image/jpeg"}
    settings.NbConvertBase.display_data_priority = SHOWN
    exporter = HTMLExporter(config=settings, template_name="base", template_file=str(TEMPLATES / "cells.html.j2"))
    exporter.register_filter("harmless", harmless)
    exporter.register_filter(
        "markdown2html", lambda source: harmless(MarkdownWithMath(renderer=_Markdown(escape=True)).render(source)))
    return exporter
