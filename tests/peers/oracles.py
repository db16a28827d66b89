"""Numbers that the official releases gave: weights, inputs and outputs to hold a network to.

Tests say `import oracles`; pytest puts this folder on the path.
"""

import runpy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

TOLERANCE = 1e-4  # of the largest output


def load(shared: Path, name: str) -> dict:
    """The file `name`.npz: {name: tensor or text}; and `synth` and `digest`, the functions that made its weights."""
    folder = shared / "peers" / "oracles"
    with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
        content = {key: str(a) if a.dtype.kind == "U" else torch.from_numpy(a) for key, a in file.items()}
    functions = runpy.run_path(str(folder / "synth.py"))
    return content | {key: functions[key] for key in ("synth", "digest")}


def fill(peer: nn.Module, file: dict, parts: tuple[str, ...] = ("",)) -> nn.Module:
    """Give a network the weights that the file was made with, and set it to evaluation.

    Args:
        peer: a module that has the official keys and shapes.
        file: what `load` returned.
        parts: prefixes of the parts of a release, in the order of the oracles' README.
    """
    shapes = {key: tuple(value.shape) for key, value in peer.state_dict().items()}
    assert all(key.startswith(parts) for key in shapes)
    states = []
    for part in parts:
        own = {key[len(part):]: shape for key, shape in shapes.items() if key.startswith(part)}
        states.append((part, file["synth"](own, "public", float(file["gain"]), part)))
    assert file["digest"](states) == file["weights_sha256"], "keys, shapes or numpy's stream differ from the release"
    peer.load_state_dict({p + k: torch.from_numpy(np.asarray(v)) for p, state in states for k, v in state.items()})
    return peer.eval()


def letters(file: dict) -> list[str]:
    """The cases of a file: a, b, c."""
    return sorted(key[-1] for key in file if key[:-1] == "out_")


def assert_matches(ours: Tensor, reference: Tensor) -> None:
    """No value differs by more than 1e-4 of the largest of the reference."""
    assert ours.shape == reference.shape
    difference, largest = (ours - reference).abs().max().item(), reference.abs().max().item()
    assert difference <= TOLERANCE * largest, f"differs by {difference:.3g} where the largest value is {largest:.3g}"


def assert_all_match(peer: nn.Module, file: dict) -> None:
    """`peer.raw` gives every output of the file, with one thread and with two."""
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for case in letters(file):
                text = {"text": file[f"text_{case}"]} if f"text_{case}" in file else {}
                assert_matches(peer.raw(file[f"ir_{case}"], file[f"vi_{case}"], **text), file[f"out_{case}"])
    finally:
        torch.set_num_threads(before)


def reach(peer: nn.Module, height: int) -> int:
    """How many rows away an input pixel can lie and still change an output pixel."""
    images = [torch.rand(1, 1, height, 20, requires_grad=True) for _ in range(2)]
    peer(*images)[0, 0, height // 2, 10].backward()
    rows = sum(image.grad.abs() for image in images).amax((0, 1, 3)).nonzero()
    return (rows - height // 2).abs().max().item()
