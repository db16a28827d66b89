"""Pictures that are read one by one, when somebody looks at them."""

from collections.abc import Sequence
from pathlib import Path

import torch

from fusionlib.data.pairs import IMAGE_SUFFIXES, as_tensor, read_image
from fusionlib.errors import FusionError


class Pictures(Sequence):
    """The pictures of these files as float32 [1 or 3, H, W] in 0..1, each decoded when it is indexed.

    Raises:
        FusionError: on indexing, a file that cannot be read.
    """

    def __init__(self, paths: Sequence[Path]):
        self.paths = list(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return as_tensor(read_image(self.paths[index]))


def find_pictures(folder: str | Path) -> list[Path]:
    """All pictures below a folder, in order; hidden ones are passed over. FusionError where there is none."""
    folder = Path(folder).expanduser()
    files = sorted(folder.rglob("*")) if folder.is_dir() else []
    hidden = [any(part.startswith(".") for part in path.relative_to(folder).parts) for path in files]
    paths = [path for path, hide in zip(files, hidden) if path.suffix.lower() in IMAGE_SUFFIXES and not hide]
    if not paths:
        found = f"{len(files)} other files" if folder.is_dir() else "no folder"
        raise FusionError(f"{folder}: expected pictures (png, jpg, bmp, tiff), found {found}; check the path")
    return paths
