"""Draw the pictures of the README into docs/images: python docs/strip.py.

The pair is an embedded scene; the strip shows it, its fusion, and both again with stripes in the infrared image.
"""

from pathlib import Path

import numpy as np
import torch

import fusionlib as fl
from fusionlib.data.synthetic.scene import render

FOLDER = Path(__file__).parent / "images"
SCENE = 81  # by night, seven people, two of whom are dark in the visible image
DAMAGE = ("stripe noise", "ir", 0.8)


def pair() -> tuple[np.ndarray, np.ndarray]:
    """Infrared uint8 [256,320] and visible uint8 [256,320,3] of the scene."""
    scene = render(SCENE)
    return scene.ir, scene.visible


def panels() -> dict[str, np.ndarray]:
    """The images of the strip, uint8, by title."""
    ir, visible = pair()
    as_tensors = torch.from_numpy(ir)[None] / 255, torch.from_numpy(visible).permute(2, 0, 1) / 255
    striped = (fl.data.degrade(*as_tensors, [DAMAGE], seed=0)[0][0].numpy() * 255).round().astype(np.uint8)
    return {
        "infrared": ir, "visible": visible, "fused": fl.fuse(ir, visible), "infrared, striped": striped,
        "fused with it": fl.fuse(striped, visible), "restored as a text asks": fl.fuse(striped, visible, "auto"),
    }  # fmt: skip


def main(folder: Path = FOLDER) -> None:
    """Write the pair and the strip."""
    ir, visible = pair()
    fl.data.write_image(folder / "infrared.png", ir)
    fl.data.write_image(folder / "visible.png", visible)
    fl.visualization.set_style()
    fl.visualization.contact_sheet([panels()]).savefig(folder / "strip.png", metadata={"Software": None})


if __name__ == "__main__":
    main()
