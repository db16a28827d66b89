"""The compared methods: reimplemented networks that load the official weights, and simple baselines.

`build(name)` returns a method, `PEERS` maps names to classes, `describe()` tabulates sources. A network's module is
imported on first use.
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch

from fusionlib.peers.peer import Peer
from fusionlib.peers.sources import SOURCES
from fusionlib.utils.errors import FusionError
from fusionlib.utils.frames import TextFrame

__all__ = ["BASELINES", "PEERS", "Peer", "build", "describe"]

#: Methods that need no weights; every table has them.
BASELINES = ("mean", "maximum", "laplacian", "laplacian-max")

_CLASSES = {name: source.place.split(".") for name, source in SOURCES.items() if source.place}


class _Peers(Mapping[str, type[Peer]]):
    """Lazy mapping from names to classes, in the paper's order."""

    def __getitem__(self, name: str) -> type[Peer]:
        module, kind = _CLASSES[name]
        return getattr(importlib.import_module(f"{__name__}.{module}"), kind)

    def __iter__(self) -> Iterator[str]:
        return iter(_CLASSES)

    def __len__(self) -> int:
        return len(_CLASSES)


PEERS = _Peers()


def build(name: str, weights: str | Path | Mapping | Sequence | None = None) -> Peer:
    """A compared method in evaluation mode on the CPU.

    Args:
        name: one of `PEERS`, in any case.
        weights: weights of the official release or of the suite's own training: a file, or for a release in several
            files their folder, a list of paths or a dict {part: path}. Without it the weights are random, which serves
            counting and timing only; the baselines have none.

    Raises:
        FusionError: unknown name; or weights that are missing, unsafe to read or those of another network.
    """
    names = {peer.lower(): peer for peer in PEERS}
    if name.lower() not in names:
        raise FusionError(f"there is no compared method {name!r}: choose among {', '.join(PEERS)}")
    peer = PEERS[names[name.lower()]]()
    if weights is not None:
        from fusionlib.peers.checkpoints import load

        load(peer, weights)
    return peer.eval()


def describe() -> pd.DataFrame:
    """Table of the compared methods: paper, year, official weights, licence, sha256, parameters, inputs and training.

    `training` says how the suite's recipe differs from the release's; a network that is "architecture only" has no
    recipe and needs official weights. The paper's reference [85] has a row although its name is unknown.
    """
    from fusionlib.peers.recipes import ARCHITECTURE_ONLY, RECIPES

    trainings = {name: recipe.note for name, recipe in RECIPES.items()}
    trainings |= {name: f"architecture only: {reason}" for name, reason in ARCHITECTURE_ONLY.items()}
    rows = {}
    for name, source in SOURCES.items():
        row = source._asdict()
        del row["place"]
        row["sha256"] = "\n".join(f"{file}: {digest}" for file, digest in source.sha256.items())
        if name in PEERS:
            kind = PEERS[name]
            with torch.device("meta"):
                row["parameters"] = sum(p.numel() for p in kind().parameters())
            takes = f"infrared and {'luma' if kind.channels == 1 else kind.order}{', text' if kind.takes_text else ''}"
            sides = f", sides in multiples of {kind.multiple} by {kind.fit}" if kind.multiple > 1 else ""
            row |= {"takes": takes + sides, "training": trainings.get(name, "needs none")}
        rows[name] = row
    table = TextFrame.from_dict(rows, orient="index").astype({"year": "Int64", "parameters": "Int64"})
    return table.fillna({"takes": "", "training": ""})
