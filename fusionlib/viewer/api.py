"""Look at images: `fusionlib.browse(folder)` and `fusionlib.compare(a, b)`, which are widgets for notebooks."""

from pathlib import Path

from fusionlib.experiments.run import reopen
from fusionlib.utils.errors import FusionError
from fusionlib.viewer.gallery import of_folder, of_two
from fusionlib.viewer.run_gallery import is_run, of_run
from fusionlib.viewer.session import Networks
from fusionlib.viewer.widget import Viewer

__all__ = ["Viewer", "browse", "compare"]


def browse(folder, data_root="") -> Viewer:
    """A widget to look at the images in a folder: end a notebook cell with it.

    Args:
        folder: of a run, such as data/runs/quick: its pairs with their fused and refined images, people, answers and
            metrics, as far as the notebooks have made them. Or of pictures: folders in it that share names of
            pictures, such as ir/, vi/ and fused/, are shown side by side; other pictures one by one.
        data_root: of a run, where its data sets lie now, if not where they lay.

    Returns:
        The widget. Without a front end, it shows as a still picture of the first entries.

    Raises:
        FusionError: no folder, no picture in it, or a run whose data sets are not there.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise FusionError(f"{folder}: expected a folder of a run or of pictures, found "
                          f"{'a file' if path.exists() else 'nothing'}; check the path")
    path = path.resolve()
    if not is_run(path):
        return Viewer(of_folder(path), Networks())
    runs = {other.name: other for other in sorted(path.parent.iterdir()) if is_run(other)}

    def open_run(name: str):
        run = reopen(runs[name], data_root if runs[name] == path else "")
        return of_run(run), Networks(run)

    return Viewer(*open_run(path.name), list(runs), path.name, open_run)


def compare(a, b) -> Viewer:
    """A widget to compare two images, or the pictures of two folders that have the same names.

    Args:
        a, b: paths, arrays, PIL images or tensors, as `fusionlib.fuse` takes them, or two folders. Where file names
            carry more than the name, a star says what the name is, as in results/*_ours.

    Returns:
        The widget, with a slider that swipes between the two.

    Raises:
        FusionError: something that is no image, a folder and an image, or folders without a name in common.
    """
    return Viewer(of_two(a, b), Networks())
