"""Equal weights are equal files, and what no network has written is refused."""

import os

import pytest
import torch
from safetensors.torch import load, safe_open, save

from fusionlib.utils.tensors import require_readable, require_weights, serialise

TENSORS = {"b": torch.randn(3, 2), "a": torch.arange(5), "c": torch.randn(7).half()}
METADATA = {name: "{}" for name in "zyxwvutsrq"}


def test_equal_weights_are_equal_files():
    shuffled = dict(reversed(METADATA.items()))
    assert len({serialise(TENSORS, each) for each in [METADATA, shuffled] * 10}) == 1
    assert len({save(TENSORS, METADATA) for _ in range(20)}) > 1  # as safetensors writes them


def test_a_file_is_one_of_safetensors(tmp_path):
    data = serialise(TENSORS, METADATA)
    found = load(data)
    assert found.keys() == TENSORS.keys() and all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)
    assert len(data) == len(save(TENSORS, METADATA)) and int.from_bytes(data[:8], "little") % 8 == 0
    (tmp_path / "w.safetensors").write_bytes(data)
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        assert file.metadata() == METADATA


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("make", "message"), [
    (lambda: torch.ones(2, 2).to_sparse(), "no plain"), (lambda: torch.ones(2, device="meta"), "no plain"),
    (lambda: torch.ones(2, dtype=torch.complex64), "no plain"), (lambda: torch.tensor(1.0).expand(1000), "larger"),
    (lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "no plain"),
    (lambda: torch.tensor([1, torch.nan]), "not finite"), (lambda: torch.tensor([torch.inf]).half(), "not finite"),
    (lambda: torch.ones(2).to(torch.float8_e4m3fn), "no plain"), (lambda: torch.ones(2).to(torch.uint16), "no plain"),
])  # fmt: skip
def test_what_no_network_has_written(make, message):
    require_weights(TENSORS, 100)
    with pytest.raises(ValueError, match=message):
        require_weights({**TENSORS, "x": make()}, 1000)


def test_a_name_that_is_long_or_no_line_is_shortened():
    with pytest.raises(ValueError, match=r"^a\\n\\x1b(n)+ is not finite everywhere$") as error:
        require_weights({"a\n\x1b" + "n" * 1_000_000: torch.ones(1) / 0}, 10)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize(("make", "message"), [
    (lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 1 << 30), "1074 MB, at most 870 are read"),
    (os.mkfifo, "a device, pipe or socket"), (os.mkdir, "a folder"),
])  # fmt: skip
@pytest.mark.skipif(os.name != "posix", reason="pipes and files with holes are those of POSIX")
def test_what_is_not_read_at_all(tmp_path, name, make, message):
    make(tmp_path / name)
    with pytest.raises(ValueError, match=message):
        require_readable(tmp_path / name)
