"""Synthetic scenes as a torch data set."""

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm.auto import tqdm


class SceneImages(Dataset):
    """Visible and infrared images of embedded scenes, one after the other: (image [3, H, W] in 0..1, boxes [N, 4]).

    Args:
        count: number of scenes; the data set is twice as long.
        seed, size: see fusionlib.data.synthetic.scene.render.
        first: index of the first scene.
    """

    def __init__(self, count: int, seed: int, size: tuple[int, int], first: int = 0):
        from fusionlib.data.synthetic.scene import render

        self.items = []
        for index in tqdm(range(first, first + count), desc="scenes", leave=False):
            scene = render(index, seed=seed, size=size)
            boxes = torch.as_tensor(scene.boxes, dtype=torch.float32).reshape(-1, 4)
            self.items += [(scene.visible, boxes), (scene.ir[..., None], boxes)]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        image, boxes = self.items[index]
        image = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255
        return image.expand(3, -1, -1), boxes
