"""What fuses a user's images in place of the packaged weights: a compared method, or other weights of the networks."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

import fusionlib
from fusionlib import peers
from fusionlib.experiments.methods import user_weights
from fusionlib.feedback.text_encoder import DIM
from fusionlib.inference import pair
from fusionlib.inference.network import placed
from fusionlib.models import weights
from fusionlib.peers.recipes import RECIPES
from fusionlib.peers.sources import SOURCES
from fusionlib.utils import devices
from fusionlib.utils.code import code_of
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import file_fingerprint


def of_method(name: str, files: Sequence[str | Path] = (), device: str | None = None, instruction: str | None = None
              ) -> pair.Fuser:  # fmt: skip
    """A compared method, for `inference.folder.fuse_files`.

    Args:
        name: one of `peers.PEERS`, in any case.
        files: of its weights, or one folder; empty: those in data/peers/<name>, as for a run.
        device: such as "cuda:1"; None: the best one.
        instruction: what it is going to be asked; of these methods only TextIF takes words, by CLIP.

    Raises:
        FusionError: unknown name, missing or other weights, an instruction to a method without words, or a device that
            is not there.
    """
    peer = peers.build(name)
    name = next(known for known in peers.PEERS if known.lower() == name.lower())
    if instruction is not None and not peer.takes_text:
        raise FusionError(f"{name} takes no instruction, only TextIF and this package's own networks do: leave it out, "
                          "or leave the method out")
    needs = any(True for _ in peer.parameters())
    found = [Path(file).expanduser() for file in files]
    if needs and not found:
        found = user_weights([fusionlib.ROOT / "data"], name)
    if needs and not found:
        raise FusionError(f"{name} needs weights: give those of its release ({SOURCES[name].weights}) by --weights, or "
                          f"put them into {fusionlib.ROOT / 'data' / 'peers' / name.lower()}")
    if found and not needs:
        raise FusionError(f"{name} has no weights: leave them out")
    if found:
        peer = peers.build(name, found[0] if len(found) == 1 else found)
    peer.to(devices.device_of(device))

    def fuse(infrared, colour, instruction):
        return peer.fuse(infrared, colour, instruction)

    digests = {path.name: file_fingerprint(path) for file in found
               for path in (sorted(file.iterdir()) if file.is_dir() else [file])}  # fmt: skip
    return pair.Fuser(fuse, {"method": name, "weights": digests, "code": code_of(type(peer))})


def of_networks(files: Sequence[str | Path] = (), device: str | None = None, instruction: str | None = None
                ) -> pair.Fuser:  # fmt: skip
    """The networks of this package with other weights, or on another device, for `inference.folder.fuse_files`.

    Args:
        files: of stage 1, and for instructions of Text-DFH, in any order; or one folder of `save_pretrained`. Empty:
            the packaged ones.
        device, instruction: as for `of_method`.

    Raises:
        FusionError: files that are not one of each, an instruction without Text-DFH or the sentence encoder, or with a
            Text-DFH that reads the features of a language model, or a device that is not there.
    """
    files = [Path(file).expanduser() for file in files] or [pair.WEIGHTS / pair.STAGE_1, pair.WEIGHTS / pair.STAGE_2]
    if len(files) == 1 and files[0].is_dir():
        from fusionlib.models.hub import files_of

        files = files_of(files[0])
    kinds = {}
    for file in files:
        kind = weights.read(file)[1]
        if kind in kinds:
            raise FusionError(f"{kinds[kind]} and {file} both hold weights of {kind}: give one of each kind")
        kinds[kind] = file
    if "FusionNetwork" not in kinds:
        raise FusionError(f"{files[0]} holds weights of Text-DFH: give those of its stage 1 beside them "
                          "(02_fusion_network/last.safetensors of the same run)")
    where = devices.device_of(device)
    stage_1 = placed(weights.load(kinds["FusionNetwork"]), where)
    stage_2 = placed(weights.load(kinds["TextDFH"], stage_1), where) if "TextDFH" in kinds else None
    if instruction is not None:
        if stage_2 is None:
            raise FusionError(f"{files[0]} holds weights of stage 1, and an instruction needs those of Text-DFH: give "
                              "them beside it (04_text_dfh/last.safetensors of the same run)")
        if (dim := stage_2.harmonise["ir"].config["text_dim"]) != DIM:
            raise FusionError(f"{kinds['TextDFH']} reads features of {dim} dimensions, those of a language model, and "
                              f"an instruction has {DIM}: fuse without one, or give weights that were trained with "
                              "another back end")
        pair.require_encoder()
    record = {kind: file_fingerprint(file) for kind, file in kinds.items()}
    return pair.Fuser(pair.fuse_by(lambda: stage_1, lambda: stage_2), {"weights": record})


def peer_table(data_root: str = "") -> pd.DataFrame:
    """The compared methods: year, parameters, training and weights, where they lie or where they are to be had.

    `data_root` is a folder in which or beside which peers/ may be, besides data/.
    """
    root = Path(data_root).expanduser()
    roots = [*([root, root.parent] if data_root else []), fusionlib.ROOT / "data"]
    rows = []
    for name in peers.PEERS:
        with torch.device("meta"):
            count = sum(p.numel() for p in peers.PEERS[name]().parameters())
        found, source = user_weights(roots, name, check=False) if count else [], SOURCES[name]
        rows.append({
            "method": name, "year": source.year or "", "parameters": f"{count:,}" if count else "",
            "recipe": "yes" if name in RECIPES else "no" if count else "needs none",
            "weights": str(found[0].parent) if found else f"github.com/{source.weights}" if count else "needs none",
        })
    return pd.DataFrame(rows)
