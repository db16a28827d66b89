"""The store: lazy features, two writers, crashes, and files that are missing, damaged or not a store."""

import os
import pickle
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from slow import Slow, features, pictures

from fusionlib import feedback
from fusionlib.feedback import store as stores
from fusionlib.feedback.store import COLUMNS, answer_key, image_fingerprint
from fusionlib.utils.errors import FusionError

SCRIPT = str(Path(__file__).with_name("slow.py"))


@pytest.fixture
def store(tmp_path):
    return feedback.open_store(tmp_path)


def answer(number=0, value=None, **changes):
    record = {
        "name": str(number), "image": f"{number:064d}", "question": "q", "text": "t", "backend": "rules", "model": "m",
        "revision": "", "settings": "{}", "encoder": "e", "seconds": 0.1, "tokens": 2, "asked": "2026-01-01",
        "kept": torch.full((2, 4), float(number if value is None else value)),
    }
    return feedback.Answer(**{**record, **changes})


def files(store):
    return {path.name for path in (store.folder / "features").iterdir()}


def test_an_answer_comes_back_as_it_was_put(store):
    given = replace(answer(), kept=torch.randn(2, 4))
    (key,) = put = store.put([given])
    for got in (put[key], feedback.open_store(store.folder).find([key, "0" * 64])[key]):
        assert all(getattr(got, column) == getattr(given, column) for column in COLUMNS)
        assert torch.equal(got.features, given.features.half().float()) and got.features.dtype == torch.float32
    assert store.put([]) == store.find([]) == {}


def test_the_table_holds_every_record_with_its_types(store):
    feedback.ask(pictures(3), Slow(), store=store, names=["a", "b", "c"])
    frame = store.frame()
    assert list(frame.columns) == ["key", *COLUMNS, "file"] and len(store) == len(frame) == 3
    assert list(frame.name) == ["a", "b", "c"] and (frame.seconds > 0).all() and list(frame.tokens) == [64] * 3
    assert frame.revision[0] == "1" and frame.settings[0] == '{"rows": 64}'
    assert frame.asked.str.match(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$").all()


def test_thousands_of_keys_at_once(store):
    keys = [key for start in range(0, 1200, 300) for key in store.put(map(answer, range(start, start + 300)))]
    assert set(store.find(keys)) == set(keys) and len(keys) == 1200


def test_features_are_read_when_they_are_needed(store, monkeypatch):
    store.put([answer(1), answer(2)])
    reads = []
    monkeypatch.setattr(stores, "safe_open", lambda *a, _open=stores.safe_open, **k: reads.append(a) or _open(*a, **k))
    found = store.find(store.frame().key)
    lazy = feedback.LazyFeatures(list(found.values()))
    assert len(lazy) == 2 and not reads
    assert lazy[1].unique().tolist() == [2.0] and len(reads) == 1
    again = pickle.loads(pickle.dumps(lazy))  # as the workers of a data loader get it
    assert torch.equal(again[0], lazy[0])


def test_what_another_process_has_answered_meanwhile_stays(store):
    (key,) = store.put([answer(1, value=5)])
    late = feedback.open_store(store.folder).put([answer(1, value=6), answer(2)])
    assert late[key].features[0, 0] == 5 and len(store) == 2
    assert files(store) == set(store.frame().file)


def test_what_a_killed_process_left_is_removed_by_the_next_writer(store, monkeypatch):
    store.put([answer(1)])
    name = "0123" * 6 + ".safetensors"
    left = [store.folder / "features" / name for name in (name, f".{name}.4711", "a person's.safetensors")]
    for path in left:
        path.write_bytes(b"half")
    store.put([answer(2)])  # the same process does not look again
    assert all(path.exists() for path in left)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stores.os, "fsync", full)  # after the file, before the records
    other = feedback.open_store(store.folder)
    with pytest.raises(FusionError, match=r"answers.sqlite .* No space left on device.*free disk space"):
        other.put([answer(3)])
    monkeypatch.undo()
    assert len(other) == 2
    other.put([answer(4)])
    assert len(other) == 3 and files(store) == {*other.frame().file, left[2].name}


def test_a_batch_waits_for_the_disk_now_and_then(store, monkeypatch):
    now, waited = [100.0], []
    monkeypatch.setattr(stores.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(stores.os, "fsync", waited.append)
    for number, later in enumerate((0, stores.SYNC / 2, stores.SYNC)):
        now[0] += later
        store.put([answer(number)])
        assert len(waited) == (1, 1, 2)[number]
    assert len(store.find(store.frame().key)) == 3


def test_an_answer_that_lost_its_features_is_asked_again_with_a_warning(store):
    first = feedback.ask(pictures(3), Slow(), store=store, batch=1)
    path = store.folder / "features" / store.frame().file[1]
    path.unlink()
    with pytest.warns(UserWarning, match=rf"{path.name} is missing: the features of 1 answers are lost"):
        again = feedback.ask(pictures(3), Slow(), store=store)
    assert len(store) == 3 and all(torch.equal(a.features, b.features) for a, b in zip(first, again))


def test_damaged_features_are_named(store):
    ((key, found),) = store.put([answer()]).items()
    path = store.folder / "features" / store.frame().file[0]
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(FusionError, match=rf"{path.name} should hold .* delete this file"):
        _ = found.features
    path.unlink()
    with pytest.warns(UserWarning, match="lost"):
        assert key not in store.find([key])


def test_what_is_no_store_is_named(tmp_path):
    (tmp_path / "answers.sqlite").write_bytes(b"some other file" * 100)
    with pytest.raises(FusionError, match=r"answers.sqlite should be a store of answers.*not a database"):
        feedback.open_store(tmp_path)


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FusionError, match=r"file.answers.sqlite should be a store"):
        feedback.open_store(tmp_path / "file")


def test_a_store_of_another_version_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / "answers.sqlite") as base:
        base.execute("CREATE TABLE answers (key TEXT PRIMARY KEY, name TEXT, file TEXT)")
    with pytest.raises(FusionError, match=r"but has key, name, file: another version of fusionlib made it"):
        feedback.open_store(tmp_path)


def test_a_writer_that_waits_too_long_says_so(store, monkeypatch):
    monkeypatch.setattr(stores.sqlite3, "connect", lambda *a, _c=sqlite3.connect, **k: _c(*a, **{**k, "timeout": 0.05}))
    with store._connect() as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(FusionError, match=r"database is locked.*another process"):
            store.put([answer()])
    store.put([answer()])


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_two_writers(store):
    run = subprocess.run([sys.executable, SCRIPT, "writers", str(store.folder)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = store.find(store.frame().key)
    assert len(store) == len(found) == 90 and files(store) == set(store.frame().file)
    assert all(torch.equal(a.features, features(a.image)) for a in found.values())


def test_the_key_depends_on_what_decides_the_answer_alone():
    key = answer_key(vars(answer()))
    for column in ("image", "question", "model", "revision", "settings", "encoder"):
        assert answer_key(vars(answer(**{column: "other"}))) != key
    assert answer_key(vars(answer(name="b", seconds=2.0, backend="llava"))) == key


def test_the_fingerprint_is_that_of_the_8_bit_pixels():
    pixels = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8)
    image = pixels / 255
    same = image_fingerprint(image)
    strided = image.double().permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert same == image_fingerprint(image + 1e-4) == image_fingerprint(strided)
    changed = image.clone()
    changed[2, 4, 6] += 1 / 255 if pixels[2, 4, 6] < 255 else -1 / 255
    assert len({same, image_fingerprint(changed), image_fingerprint(image.reshape(3, 7, 5))}) == 3
    assert torch.equal(image, pixels / 255)  # left as it was


ROWS = {"name": [None, b"x"], "text": [None, b"\xff"], "tokens": ["many", None, 1.5], "seconds": ["long"],
        "file": [None, 5, "../../x.safetensors", "/etc/passwd", "", ".", "a" * 5000, "a\0"]}  # fmt: skip


@pytest.mark.parametrize(("column", "value"), [(column, value) for column, values in ROWS.items() for value in values],
                         ids=lambda value: repr(value)[:20])
def test_a_row_of_somebody_else(store, column, value):
    """A table may lack the types that ours has."""
    (key,) = store.put([answer()])
    rebuild(store, "CREATE TABLE copy AS SELECT * FROM answers", "DROP TABLE answers",
            "ALTER TABLE copy RENAME TO answers", (f"UPDATE answers SET {column} = ?", (value,)))
    with pytest.raises(FusionError, match=rf"answers\.sqlite should hold records .*, but {column} of one is damaged"):
        feedback.open_store(store.folder).find([key])


def rebuild(store, *statements):
    with sqlite3.connect(store.folder / "answers.sqlite") as base:
        for statement in statements:
            base.execute(*statement) if isinstance(statement, tuple) else base.execute(statement)
    base.close()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("statements", [
    ("ALTER TABLE answers RENAME TO rows", "CREATE VIEW answers AS WITH RECURSIVE endless(n) AS (SELECT 1 UNION ALL "
     "SELECT n + 1 FROM endless) SELECT rows.* FROM rows, endless"),
    ("CREATE TRIGGER gone AFTER INSERT ON answers BEGIN DELETE FROM answers; END",),
    ("CREATE TABLE other (x)",),
], ids=["endless view", "trigger", "another table"])
def test_a_store_with_more_than_its_table(store, statements):
    store.put([answer()])
    rebuild(store, *statements)
    with pytest.raises(FusionError, match=r"answers\.sqlite should have the table answers alone, but has"):
        len(feedback.open_store(store.folder))


@pytest.mark.parametrize("change", [
    lambda t: t * float("nan"), lambda t: t * float("inf"), lambda t: t[0], lambda t: t[None], lambda t: t[:1],
    lambda t: torch.cat([t, t]), lambda t: t[:0], lambda t: t[:, :0], lambda t: t[0, 0],
], ids=["NaN", "infinite", "1D", "3D", "fewer tokens", "more tokens", "no token", "no number", "scalar"])  # fmt: skip
def test_features_of_somebody_else(store, change):
    ((key, found),) = store.put([answer(1)]).items()
    path = store.folder / "features" / store.frame().file[0]
    save_file({key: change(found.features.half()).contiguous()}, path)
    with pytest.raises(FusionError, match=rf"{path.name} should hold .*finite numbers of 2 tokens.* delete this file"):
        _ = found.features


@pytest.mark.timeout(60)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_features_that_are_a_pipe(store):
    (key,) = store.put([answer()])
    path = store.folder / "features" / store.frame().file[0]
    path.unlink()
    os.mkfifo(path)
    with pytest.warns(UserWarning, match="lost"):
        assert store.find([key]) == {}
