"""Files of torch that would take long or much memory are refused before they are read, and all others are not."""

import copy
import io
import zipfile

import pytest
import torch
from torch import nn

from fusionlib.utils.pickles import require_plain

TENSORS = {"a": torch.randn(3, 2), "b.weight": torch.arange(5), "c": nn.Parameter(torch.ones(2))}


def archive(*opcodes):
    """What torch saves, of any opcodes of pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as parts:
        parts.writestr("a/data.pkl", b"\x80\x02" + b"".join(opcodes) + b".")
        parts.writestr("a/version", "3\n")
    return file.getvalue()


def tuples(levels):
    """Opcodes of a tuple of two tuples of two tuples, each of them shared: alone on the stack at the end."""
    return [b")q\0", *(b"0h%ch%c\x86q%c" % (level, level, level + 1) for level in range(levels))]


def packed(method):
    file, saved = io.BytesIO(), io.BytesIO()
    torch.save(TENSORS, saved)
    with zipfile.ZipFile(saved) as parts, zipfile.ZipFile(file, "w", method) as others:
        for name in parts.namelist():
            others.writestr(name, parts.read(name))
    return file.getvalue()


def in_one_place(count):
    """A zip whose directory states the same bytes as so many parts."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as parts:
        parts.writestr("a/data.pkl", b"\x80\x02N.")
        parts.writestr("a/data/0", bytes(100_000))
        for number in range(1, count):
            other = copy.copy(parts.getinfo("a/data/0"))
            other.filename = other.orig_filename = f"a/data/{number}"
            parts.filelist.append(other)
    return file.getvalue()


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("data", "message"), [
    (packed(zipfile.ZIP_DEFLATED), "compressed"), (in_one_place(60), "in the same place"),
    (archive(b"}", *tuples(60), b"Ns"), "tuples of more elements"), (archive(*tuples(200)), "tuples of more elements"),
    (archive(b"}(X\1\0\0\0a", *tuples(60), b"\x85Nu"), "tuples of more elements"),
    (archive(b"cbuiltins\nbytearray\n\x8a\5\0\xe4\x0bT\2\x85R"), "builtins bytearray"),
    (archive(b"c" + b"m" * 500_000 + b"\nx\n"), "it names m{40},"),
    (b"\x80\2" + b"".join(tuples(60)) + b".", "tuples of more elements"),
], ids=range(8))  # fmt: skip
def test_what_would_take_long_is_refused(tmp_path, data, message):
    (tmp_path / "w.pt").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        require_plain(tmp_path / "w.pt")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("content", [
    TENSORS, {"state_dict": TENSORS, "names": ["a", ("b", ("c",))], "epoch": 3}, nn.Sequential(nn.Conv2d(1, 2, 3)),
    [TENSORS] * 100, {(1, 2): torch.ones(1)}, torch.optim.Adam(nn.Linear(2, 2).parameters()).state_dict(), None,
], ids=lambda content: type(content).__name__)  # fmt: skip
def test_what_torch_saves_is_not(tmp_path, content, zipped):
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    require_plain(tmp_path / "w.pt")


@pytest.mark.parametrize("data", [b"", b"no zip", b"N", b"\x80\2h\5.", b"\x80\2R.", b"\x80\2u.", b"PK\5\6"])
def test_what_is_neither_ends_in_an_error(tmp_path, data):
    (tmp_path / "w.pt").write_bytes(data)
    with pytest.raises((ValueError, LookupError)):
        require_plain(tmp_path / "w.pt")
