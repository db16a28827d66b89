"""Names that stay below a folder, and records of any content."""

import os

import pytest

from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import (
    begun,
    below,
    beside,
    load_json,
    not_a_file,
    read_json,
    read_text,
    remove_abandoned,
    write_atomically,
)

LEADING_OUT = ["..", "../x", "a/..", "a/../../b", "/a", "/", "a/" + "b" * 256, "ä" * 128, "a\0", "\ud800"]


@pytest.mark.parametrize("name", LEADING_OUT, ids=lambda name: repr(name)[:20])
def test_names_that_lead_out_of_a_folder(tmp_path, name):
    with pytest.raises(FusionError, match="leads out of it or cannot be a name"):
        below(tmp_path, name)


@pytest.mark.parametrize("name", ["a", "a/b.png", "a..b/..c", "...", ".a", "a b\n", "ä" * 127, "\udcff"], ids=repr)
def test_names_that_stay(tmp_path, name):
    assert below(tmp_path, name) == tmp_path / name


def test_links(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "run" / "link").symlink_to(tmp_path / "data")
    (tmp_path / "run" / "inside").symlink_to(tmp_path / "run")
    assert below(tmp_path / "run", "link/a") == tmp_path / "run" / "link" / "a"  # users link their data sets
    with pytest.raises(FusionError, match="leads out of it"):
        below(tmp_path / "run", "link/a", links=False)
    assert below(tmp_path / "run", "inside/a", links=False) == tmp_path / "run" / "inside" / "a"


CONTENTS = {
    "empty": b"", "zeros": bytes(100), "not UTF-8": b'"\xe9"', "UTF-16": '"a"'.encode("utf-16"), "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000, "half": b'{"a": ', "two": b"1 2",
}  # fmt: skip


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_a_damaged_file(tmp_path, content):
    (tmp_path / "r.json").write_bytes(content)
    with pytest.raises(FusionError, match=r"r\.json: expected a record, but it cannot be read \(.*\); make") as error:
        load_json(tmp_path / "r.json", "a record", "make it again")
    assert "\n" not in str(error.value) and read_json(tmp_path / "r.json") is None


def test_a_check_names_what_is_wrong(tmp_path):
    def check(content):
        raise ValueError(f"data must not be {content}")

    (tmp_path / "r.json").write_text("[1]")
    with pytest.raises(FusionError, match=r"cannot be read \(data must not be \[1\]\); make"):
        load_json(tmp_path / "r.json", "a record", "make it again", check)
    assert read_json(tmp_path / "r.json", check) is None and read_json(tmp_path / "r.json") is None  # no object


def test_integers_of_any_length(tmp_path):
    (tmp_path / "r.json").write_text(f"[7, -7, {10**17}, {10**30}, {'9' * 400}, {'9' * 9000}]")
    found = load_json(tmp_path / "r.json", "a record", "make it again")
    assert found == [7, -7, 10**17, 1e30, float("inf"), float("inf")]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "missing", "loop", "long"])
def test_what_is_no_file_of_text(tmp_path, kind):
    path = tmp_path / "r.json"
    if kind == "pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("no named pipes")
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.symlink_to({"device": "/dev/zero", "loop": path, "long": tmp_path / "sparse"}[kind])
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 33)  # takes no space
    with pytest.raises(FusionError, match=r"r\.json: expected a record,") as error:
        read_text(path, "a record", "make it again")
    assert "\n" not in str(error.value) and read_json(path) is None


@pytest.mark.parametrize("name", ["a.png", "x" * 255, "路" * 85, os.fsdecode(b"\xff" * 255)], ids=lambda name: name[:5])
def test_files_of_any_name_are_written_and_nothing_else_stays(tmp_path, name):
    assert len(os.fsencode(beside(tmp_path / name, ".mp4").name)) <= 255
    write_atomically(tmp_path / name, b"1")
    write_atomically(tmp_path / name, b"22")
    assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_bytes() == b"22"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_what_was_begun_is_removed_and_the_old_file_stays(tmp_path, monkeypatch, error):
    def broken(self, data):
        with open(self, "wb") as file:
            file.write(data[:1])
        raise error

    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr("pathlib.Path.write_bytes", broken)
    with pytest.raises(type(error)):
        write_atomically(tmp_path / "a", b"new")
    assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"old"


def test_a_file_that_is_shorter_than_what_was_written_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.write_bytes", lambda self, data: self.touch())
    with pytest.raises(OSError, match="0 of 3 bytes were written"):
        write_atomically(tmp_path / "a", b"new")
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_what_is_no_file_is_neither_read_nor_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    (tmp_path / "file").write_bytes(b"12345")
    for name in ("pipe", "link"):
        assert not_a_file(tmp_path / name, 10) == "a device, pipe or socket"
        with pytest.raises(FusionError, match=f"{name}: expected a place for a file, found a device, pipe or socket"):
            write_atomically(tmp_path / name, b"x")
    assert not_a_file(tmp_path, 10) == "a folder" and not_a_file(tmp_path / "gone", 10) == ""
    assert not_a_file(tmp_path / "file", 5) == ""
    assert not_a_file(tmp_path / "file", 4) == "5e-06 MB, at most 4e-06 are read"
    assert sorted(os.listdir(tmp_path)) == ["file", "link", "pipe"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
def test_what_killed_processes_began_is_removed_and_nothing_else(tmp_path):
    long, others = tmp_path / f"{'x' * 240}.png", (".b.png.123", "a.png.123", ".a.png.123x", ".a.png", ".a.png.tmp")
    for path, suffix in ((tmp_path / "a.png", ""), (tmp_path / "a.mp4", ".mp4"), (long, "")):
        abandoned = path.with_name(beside(path).name.replace(f".{os.getpid()}", f".123{suffix}"))
        abandoned.write_bytes(b"half")
    for name in others:
        (tmp_path / name).write_bytes(b"of the user")
    (tmp_path / ".a.png.7").mkdir()
    (tmp_path / ".a.png.8").symlink_to("a.png.123")
    with begun(tmp_path / "a.png") as alive:
        remove_abandoned([tmp_path / "a.png", tmp_path / "a.mp4", long, tmp_path / "nowhere" / "a.png"])
        assert sorted(os.listdir(tmp_path)) == sorted([*others, ".a.png.7", ".a.png.8", alive.name])
        alive.rename(tmp_path / "a.png")
    with pytest.raises(KeyError), begun(tmp_path / "a.png") as alive:
        raise KeyError
    assert not alive.exists()
