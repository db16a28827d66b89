"""Image viewers for notebooks: `fusionlib.browse(folder)` and `fusionlib.compare(a, b)`."""

from dataclasses import replace
from pathlib import Path

from fusionlib.experiments.run import reopen
from fusionlib.utils.errors import FusionError
from fusionlib.viewer.gallery import from_comparison, from_folder
from fusionlib.viewer.run_gallery import from_run, is_run
from fusionlib.viewer.session import Networks
from fusionlib.viewer.widget import Viewer


def browse(folder, data_root="", held_out_detector="") -> Viewer:
    """View the images of a folder: make this the last line of a notebook cell.

    Args:
        folder: of a run, such as data/runs/quick, which is shown with the fused and refined images, detections, answers
            and metrics computed so far; or any folder of images, in which the pairs of data sets, such as walk/ir/1.png
            and walk/vi/1.jpg, and other subfolders with the same names, such as walk/fused/, are shown side by side; or
            a pattern with stars, see `data.places`, for its images alone.
        data_root: folder of the run's data sets, if they have been moved.
        held_out_detector: weights of a detector that was in no loss, by path or name, whose boxes can be chosen;
            empty: that of the run's settings, if they have one.

    Without a front end, the widget is displayed as a contact sheet of a few entries. Raises FusionError for a missing
    folder, one without images, and a run whose data sets are missing.
    """
    path = Path(folder).expanduser()
    if not path.is_dir() and "*" in str(path):
        return Viewer(from_folder(path), Networks())
    if not path.is_dir():
        raise FusionError(f"{folder}: expected a folder of a run or of images, found "
                          f"{'a file' if path.exists() else 'nothing'}; check the path")
    path = path.resolve()
    if not is_run(path):
        return Viewer(from_folder(path), Networks())
    runs = {sibling.name: sibling for sibling in sorted(path.parent.iterdir()) if is_run(sibling)}

    def open_run(name: str):
        run = reopen(runs[name], data_root if runs[name] == path else "")
        if held_out_detector:
            run = replace(run, profile=replace(run.profile, held_out_detector=str(held_out_detector)))
        return from_run(run), Networks(run)

    return Viewer(*open_run(path.name), list(runs), path.name, open_run)


def compare(a, b) -> Viewer:
    """Compare two images, or the images of two folders that have the same names, with a slider between them.

    Args:
        a, b: two images, each a path, array, PIL image or tensor as for `fusionlib.fuse`, or two folders. Where file
            names have a suffix or prefix, a star stands for the common name, as in results/*_ours.

    Raises FusionError for anything else, for a folder and an image, and for folders without a name in common.
    """
    return Viewer(from_comparison(a, b), Networks())
