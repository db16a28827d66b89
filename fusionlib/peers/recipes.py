"""Training recipes of the compared methods: the loss and settings of their releases, with deviations noted.

`RECIPES` holds the methods for which at least the decisive loss is known, by their names in `PEERS`;
`ARCHITECTURE_ONLY` holds all other networks, which need official weights. `experiments.peer_training` trains. Crops,
flips and quarter turns are those of the suite's own network. Budgets are passes over the user's pairs, so an epoch is
shorter than one over the many patches that most releases cut beforehand; `crops` lengthens it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from fusionlib.peers import objectives
from fusionlib.peers.losses import Terms
from fusionlib.peers.peer import Peer
from fusionlib.peers.sources import SOURCES


@dataclass(frozen=True)
class Recipe:
    """Settings of a training, or of one of its phases. Parameters are named as in the network."""

    loss: Callable[[Peer, dict, nn.Module | None], Terms]
    note: str  # how the loss and the settings differ from the release
    batch: int
    crop: int  # pixels
    learning_rate: float
    epochs: int
    steps: int = 0  # of the optimiser, instead of epochs; 0: by epochs
    crops: int = 1  # of each pair in an epoch
    resize: int = 4096  # maximum of the longer side, pixels; larger pairs are reduced
    weight_decay: float = 0.0
    clip: float = 0.0  # maximum gradient norm; 0: no clipping
    optimizer: type[torch.optim.Optimizer] = torch.optim.Adam
    drops: tuple[float, ...] = ()  # fractions of the budget after which the learning rate is multiplied by `drop`
    drop: float = 0.5
    rates: dict[str, float] = field(default_factory=dict)  # prefix of parameters -> factor on learning_rate
    trains: tuple[str, ...] = ("",)  # prefixes of the trained parameters
    idle: tuple[str, ...] = ()  # substrings of parameters that do not affect the output and stay unchanged
    needs: str = ""  # the helper of the loss, from a user's file: vgg or text
    first: "Recipe | None" = None  # the preceding phase

    def schedule(self, step: int, steps: int) -> float:
        """The factor on the learning rate after `step` of `steps`."""
        return self.drop ** sum(step >= share * steps for share in self.drops)


RECIPES = {
    "AUIF": Recipe(
        objectives.auif, "as the release: training restores single images; fusion by sums is for tests only",
        batch=32, crop=128, learning_rate=1e-2, epochs=80, drops=(0.5,), drop=0.1, rates={"Encoder_Detail.": 0.1}),
    "DATFuse": Recipe(
        objectives.datfuse, "as the release; that edges are compared per image is our reading",
        batch=128, crop=120, learning_rate=1e-3, epochs=10, idle=("patch_embed.norm", "relative_position_bias_table")),
    "LRRNet": Recipe(
        objectives.lrrnet, "as the release",
        batch=8, crop=128, learning_rate=1e-5, epochs=4, weight_decay=0.9, needs="vgg"),
    "MLFusion": Recipe(
        objectives.mlfusion, "as the release, without its last three epochs with a contrast loss that is not described",
        batch=4, crop=128, learning_rate=1e-4, epochs=20, weight_decay=1e-5, idle=("conv_after_meta_down",)),
    "SwinFusion": Recipe(  # 10,000 steps, on the 1,083 training pairs of MSRS
        objectives.swinfusion, "as the release, without its moving average of the weights",
        batch=12, crop=128, learning_rate=2e-5, epochs=110, idle=("conv_first1_B", "conv_first2_B")),
    "TextIF": Recipe(
        objectives.textif, "as the release with its weights for low light, for one prompt; SSIM with the usual window",
        batch=8, crop=96, learning_rate=1e-4, epochs=120, weight_decay=5e-2, optimizer=torch.optim.AdamW, needs="text"),
    "CDDFuse": Recipe(  # 1e-4, halved after each sixth of the two phases together
        objectives.cddfuse, "second phase, of the whole network, as the release, except that the optimiser starts "
        "afresh; the restoration loss of the first phase is ours",
        batch=8, crop=128, learning_rate=2.5e-5, epochs=80, clip=0.01, drops=(0.25, 0.5, 0.75),
        first=Recipe(
            objectives.cddfuse_parts, "settings and decomposition as the release; ours: the restoration loss, squared "
            "error and 5 (1 - SSIM), and that only encoder and decoder are trained",
            batch=8, crop=128, learning_rate=1e-4, epochs=40, clip=0.01, drops=(0.5,),
            trains=("DIDF_Encoder.", "DIDF_Decoder."))),
}

#: The decisive element of their training that is unknown.
ARCHITECTURE_ONLY = {
    "IVFWSR": "its release has no training code, and its loss is not known to us",
    "TIMFusion": "the loss that its release was trained by is not known to us",
    "TIMFusion-light": "the loss that its release was trained by is not known to us",
    "ALMFnet": "the masks in its loss, which say what each source gives, are not known to us",
    "RMR-Fusion": "its loss needs labels of tissue, and how its autoencoder is trained is not known to us",
    "EMMA": "its loss needs the release's two sensing networks, which are not known to us",
}


def architecture_only(name: str) -> str:
    """A sentence: why a method of `ARCHITECTURE_ONLY` cannot be trained, and where its official weights are."""
    return (f"{name} is architecture only: {ARCHITECTURE_ONLY[name]}, so there is no recipe to train it; "
            f"the official weights are at {SOURCES[name].weights}")
