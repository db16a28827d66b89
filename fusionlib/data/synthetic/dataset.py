"""Synthetic scenes as a torch data set."""

import torch
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from fusionlib.data.synthetic.scene import render


class SceneImages(Dataset):
    """The visible and the infrared image of each scene in turn: (image [3, H, W] in 0..1, boxes [N, 4]).

    The `count` scenes have the numbers from `first` on in the sequence `seed`, see `fusionlib.data.synthetic.scene`.
    """

    def __init__(self, count: int, seed: int, size: tuple[int, int], first: int = 0):
        self.items = []
        for index in tqdm(range(first, first + count), desc="scenes", leave=False):
            scene = render(index, seed=seed, size=size)
            self.items += [(image, torch.from_numpy(scene.boxes)) for image in (scene.visible, scene.ir[..., None])]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        image, boxes = self.items[index]
        image = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        return image.expand(3, -1, -1), boxes
