"""The compared methods under one roof: their own networks, which load the official weights, and simple baselines.

`build(name)` makes one, `PEERS` has their classes, `describe()` says of each where it comes from. A network's module is
imported when it is first asked for.
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch

from fusionlib.peers.peer import Peer
from fusionlib.peers.sources import SOURCES
from fusionlib.utils.errors import FusionError

__all__ = ["PEERS", "Peer", "build", "describe"]


_PLACES = {name: source.place.split(".") for name, source in SOURCES.items() if source.place}


class _Peers(Mapping[str, type[Peer]]):
    """name -> class, in the paper's order."""

    def __getitem__(self, name: str) -> type[Peer]:
        return getattr(importlib.import_module(f"{__name__}.{_PLACES[name][0]}"), _PLACES[name][1])

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)


PEERS = _Peers()


def build(name: str, weights: str | Path | Mapping | Sequence | None = None) -> Peer:
    """A compared method in evaluation mode on the CPU.

    Args:
        name: one of `PEERS`, in any case.
        weights: where the official release's weights lie, or what the suite's own training saved: a file; for a release
            in several files the folder that holds them, a list of paths or a dict {part: path}. Without it the network
            is untrained: its weights are random, good for counting and timing only. The baselines have none.

    Raises:
        FusionError: unknown name; or weights that are missing, unsafe to read or another network's.
    """
    known = {peer.lower(): peer for peer in PEERS}
    if name.lower() not in known:
        raise FusionError(f"there is no compared method {name!r}: choose among {', '.join(PEERS)}")
    peer = PEERS[known[name.lower()]]()
    if weights is not None:
        from fusionlib.peers.checkpoints import load

        load(peer, weights)
    return peer.eval()


def describe() -> pd.DataFrame:
    """Every compared method: paper, year, official weights, licence, sha256, parameters, what it takes, its training.

    The training says how the suite's recipe differs from the release's; "architecture only" has none, so that official
    weights alone fill such a network. The row of the paper's reference [85], whose name is lost in our copy of the
    paper, is kept and says so.
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
            with torch.device("meta"):  # shapes without numbers
                row["parameters"] = sum(p.numel() for p in kind().parameters())
            row |= {"takes": _takes(kind), "training": trainings.get(name, "needs none")}
        rows[name] = row
    table = pd.DataFrame.from_dict(rows, orient="index").astype({"year": "Int64", "parameters": "Int64"})
    return table.fillna({"takes": "", "training": ""})


def _takes(kind: type[Peer]) -> str:
    takes = "infrared and luma" if kind.channels == 1 else f"infrared and {kind.order}"
    takes += ", text" if kind.takes_text else ""
    return takes + (f", sides in multiples of {kind.multiple} by {kind.fit}" if kind.multiple > 1 else "")
