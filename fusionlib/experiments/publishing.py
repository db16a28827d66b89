"""Publish a run: its executed notebooks to notebooks/, its tables and figures to figures/; only this writes there."""

import base64
import io
import shutil
from collections.abc import Iterable
from pathlib import Path

import nbformat
from PIL import Image

from fusionlib.experiments import suite

WIDGET = "application/vnd.jupyter.widget-view+json"
EXPORTED = (".png", ".pdf", ".csv", ".tex", ".html")


def publish(folder: Path, names: Iterable[str]) -> None:
    """Copy executed notebooks of a quick run to notebooks/, the run's tables and figures to figures/quick/.

    `names` are those of the notebooks, such as "02_fusion_network": others may have been edited since they ran. Outputs
    stay, since nbval compares them; progress bars, widgets and volatile metadata are removed. Large images become jpg,
    as the repository keeps every version of them.
    """
    for name in names:
        notebook = nbformat.read(Path(folder) / f"{name}.ipynb", as_version=4)
        kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
        notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
        notebook.cells = [c for c in notebook.cells if "injected-parameters" not in c.metadata.get("tags", [])]
        for index, cell in enumerate(notebook.cells):
            cell.id = f"cell-{index:02d}"
            cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
            if cell.cell_type == "code":
                cell.outputs = [output for output in cell.outputs if is_still(output)]
                for output in cell.outputs:
                    shrink_picture(output.get("data", {}))
        nbformat.write(notebook, suite.NOTEBOOKS / f"{name}.ipynb")
    copy_figures(folder)


def is_still(output: dict) -> bool:
    """Whether an output can be shown without a kernel; removes a widget, and keeps the image that comes with it."""
    data = output.get("data", {})
    return data.pop(WIDGET, None) is None or "image/png" in data


def copy_figures(folder: Path) -> None:
    """Copy the tables (csv, tex, html) and figures (png, pdf) of a run to figures/quick/."""
    target = suite.NOTEBOOKS.parent / "figures" / "quick"
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted((Path(folder) / "figures").glob("*")):
        if path.suffix in EXPORTED:
            shutil.copy(path, target / path.name)


def shrink_picture(data: dict, limit: int = 200_000) -> None:
    """Replace a png output of more than `limit` base64 characters by a jpg."""
    if len(data.get("image/png", "")) > limit:
        buffer = io.BytesIO()
        image = Image.open(io.BytesIO(base64.b64decode(data.pop("image/png"))))
        image.convert("RGB").save(buffer, "JPEG", quality=88)
        data["image/jpeg"] = base64.b64encode(buffer.getvalue()).decode()
