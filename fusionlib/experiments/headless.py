"""A notebook's training without the notebook: `python -m fusionlib train`, by one process or by many."""

import nbformat

from fusionlib.experiments import suite
from fusionlib.utils import distributed
from fusionlib.utils.errors import FusionError

TRAIN = ("02", "04")  # the notebooks that train one network for hours


def train(number: str, profile: str = "quick", data_root: str = "", out: str = "", settings: dict | None = None) -> str:
    """Run the cells of a notebook up to the one that trains; the notebook finds the weights and goes on from there.

    Under `accelerate launch` every process runs them, and they train together.

    Args:
        number: of the notebook, one of `TRAIN`; those before it must be done.
        profile, data_root, out, settings: as for `suite.run`, and as for the notebook afterwards.

    Returns:
        The folder that the weights are in.

    Raises:
        FusionError: another number, an unknown profile or setting, an earlier notebook that is not done, or what the
            training itself says.
    """
    if number not in TRAIN:
        raise FusionError(f"train takes {' or '.join(TRAIN)}, the number of a notebook that trains, but got {number!r}")
    (notebook,) = suite.select([number])
    given = suite.settings_of([notebook], profile, data_root, out, settings)
    distributed.process()  # before a cell takes a device
    cells = nbformat.read(notebook, as_version=4).cells
    names = suite.parameters(notebook) | given
    for index, cell in enumerate(cells):
        if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", []):
            exec(compile(cell.source, f"{notebook.name}, cell {index}", "exec"), names)
            if ".finish(" in cell.source:
                break
    return str(names["stage"].folder)
