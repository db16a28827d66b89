"""A run as static pages: `contents` reads it, `cells` turns its notebooks into HTML, `pages` writes.

    fusionlib.report.write("data/runs/quick")           # -> data/runs/quick/report/index.html
"""

from fusionlib.report.pages import write

__all__ = ["write"]
