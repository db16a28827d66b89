"""Executed notebooks as pages: nbconvert's template without scripts and network access, formulas as MathML."""

import contextlib
import re
from pathlib import Path

import bleach
from bs4 import BeautifulSoup
from latex2mathml.converter import convert
from markupsafe import Markup
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from PIL import Image
from traitlets.config import Config

from fusionlib.experiments.publishing import is_still, shrink_picture

TEMPLATES = Path(__file__).parent / "templates"
TAGS = bleach.ALLOWED_TAGS | set(
    "h1 h2 h3 h4 h5 h6 p br hr pre div span del sub sup dl dt dd table caption thead tbody tfoot tr th td "
    "math mi mn mo mtext mspace mrow mfrac msqrt mroot msub msup msubsup mover munder munderover mtable mtr mtd mstyle "
    "mpadded mphantom menclose".split())
ATTRIBUTES = set(
    "class id title colspan rowspan scope display width stretchy fence accent mathvariant mathsize displaystyle "
    "linethickness lspace rspace minsize maxsize columnalign notation".split())


class _Renderer(IPythonRenderer):
    """JupyterLab's Markdown, with formulas as MathML."""

    def inline_math(self, body, display="inline"):
        try:
            return convert(body, display=display)
        except Exception:  # the converter raises many types for invalid LaTeX, which is then shown as source
            return f"<code>{Markup.escape(body)}</code>"

    def block_math(self, body):
        return self.inline_math(body, "block")


def _markdown(source):
    return MarkdownWithMath(renderer=_Renderer(escape=True)).render(source)  # escape: HTML is shown as text


def sanitize(html: str) -> Markup:
    """Remove from HTML all that runs, loads or sends, and all styles; text, tables, formulas and links stay."""
    html = re.sub(r"(?is)<(style|script)\b.*?</\1\s*>", "", html)  # bleach would leave their content as text
    return Markup(bleach.clean(html, TAGS, _is_allowed, strip=True))


def _is_allowed(tag, name, value):
    return name in ATTRIBUTES or (tag == "a" and name == "href" and value.startswith(("#", "http:", "https:")))


def page(notebook: NotebookNode, title: str, head: str, top: str) -> str:
    """Render a notebook with `head`, HTML for the page's head, and `top`, HTML above the cells.

    The notebook is changed: large png outputs become jpg, and widgets, which need a kernel, are removed.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if is_still(output)]
            for output in cell.outputs:
                with contextlib.suppress(OSError, ValueError, Image.DecompressionBombError):  # not shown if no picture
                    shrink_picture(output.get("data", {}))
    return EXPORTER.from_notebook_node(notebook, {"metadata": {"name": title}, "head": head, "top": top})[0]


def sections(notebook: NotebookNode) -> list[tuple[str, str]]:
    """(anchor, text) of the second-level headings."""
    source = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    headings = BeautifulSoup(_markdown(source), "html.parser").select("h2[id]")
    return [(heading["id"], heading.get_text().removesuffix("¶")) for heading in headings]


EXPORTER = HTMLExporter(Config({
    "NbConvertBase": {"display_data_priority": ["text/html", "text/markdown", "image/png", "image/jpeg", "text/plain"]},
    "TagRemovePreprocessor": {"enabled": True, "remove_cell_tags": {"papermill-error-cell-tag"}},
}), sanitize_html=True, template_file=str(TEMPLATES / "notebook.html.j2"))
EXPORTER.register_filter("clean_html", sanitize)
EXPORTER.register_filter("markdown2html", _markdown)
