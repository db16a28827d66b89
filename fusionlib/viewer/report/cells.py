"""An executed notebook as a page: nbconvert's template, without what it takes from the network, formulas as MathML."""

import re
from functools import cache
from pathlib import Path

import bleach
from bs4 import BeautifulSoup
from latex2mathml.converter import convert
from markupsafe import Markup
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from traitlets.config import Config

from fusionlib.experiments.suite import is_still, shrink_picture

TEMPLATES = Path(__file__).parent / "templates"
SHOWN = ["text/html", "text/markdown", "image/png", "image/jpeg", "text/plain"]  # the first of these that there is
TAGS = bleach.ALLOWED_TAGS | set(
    "h1 h2 h3 h4 h5 h6 p br hr pre div span del sub sup dl dt dd table caption thead tbody tfoot tr th td "
    "math mi mn mo mtext mspace mrow mfrac msqrt mroot msub msup msubsup mover munder munderover mtable mtr mtd mstyle "
    "mpadded mphantom menclose".split())  # fmt: skip
ATTRIBUTES = set(
    "class id title colspan rowspan scope display width stretchy fence accent mathvariant mathsize displaystyle "
    "linethickness lspace rspace minsize maxsize columnalign notation".split())  # fmt: skip


class _Markdown(IPythonRenderer):
    """Markdown as JupyterLab shows it, but HTML in it is shown as text, and formulas need no script."""

    def inline_math(self, body, display="inline"):
        try:
            return convert(body, display=display)
        except Exception:  # the converter raises whatever the parser stumbles over; LaTeX can be read as it is, too
            return f"<code>{Markup.escape(body)}</code>"

    def block_math(self, body):
        return self.inline_math(body, "block")


def _markdown(source):
    return MarkdownWithMath(renderer=_Markdown(escape=True)).render(source)


def harmless(html: str) -> Markup:
    """HTML without anything that runs, loads or sends: text, tables, formulas and links stay, without styles."""
    html = re.sub(r"(?is)<(style|script)\b.*?</\1\s*>", "", html)  # of other elements the text stays
    return Markup(bleach.clean(html, TAGS, _is_harmless, strip=True))


def _is_harmless(tag, name, value):
    return name in ATTRIBUTES or (tag == "a" and name == "href" and value.startswith(("#", "http:", "https:")))


def page(notebook: NotebookNode, title: str, head: str, top: str) -> str:
    """The page of a notebook.

    Args:
        notebook: as executed; of its outputs, pictures that are large become jpg, and widgets, which need a kernel, go.
        title: as text.
        head: HTML for the head of the page.
        top: HTML above the cells.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if is_still(output)]
            for output in cell.outputs:
                shrink_picture(output.get("data", {}))
    return _exporter().from_notebook_node(notebook, {"metadata": {"name": title}, "head": head, "top": top})[0]


def sections(notebook: NotebookNode) -> list[tuple[str, str]]:
    """(anchor, text) of the headings of the second level."""
    source = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    found = BeautifulSoup(_markdown(source), "html.parser").select("h2[id]")
    return [(heading["id"], heading.get_text().removesuffix("¶")) for heading in found]


@cache
def _exporter():
    settings = Config({
        "NbConvertBase": {"display_data_priority": SHOWN},
        "TagRemovePreprocessor": {"enabled": True, "remove_cell_tags": {"papermill-error-cell-tag"}},
    })  # fmt: skip
    exporter = HTMLExporter(settings, sanitize_html=True, template_file=str(TEMPLATES / "notebook.html.j2"))
    exporter.register_filter("clean_html", harmless)
    exporter.register_filter("markdown2html", _markdown)
    return exporter
