"""One store for answers and their features, whichever back end gave them.

Records lie in SQLite. Features lie beside it in safetensors files of one batch each, half precision, and are read one
by one when they are needed. A batch is written under SQLite's write lock: first the features, then the records, so a
record never lacks its features, and a process that is killed at any moment leaves nothing but a file without records,
which the next writer removes. Several processes and machines may write: they wait for each other up to a minute. On a
network folder that needs working file locks, which NFS and SMB have unless an administrator turned them off; SQLite's
write-ahead log, which needs shared memory, is not used.
"""

import functools
import hashlib
import json
import os
import re
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path

import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from fusionlib.data.image_io import to_uint8
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import write_atomically

# A power failure, unlike a kill, can damage what the disk has not written yet, so a batch waits for the disk. As that
# takes some 20 ms, those of quick back ends do not all wait, but one in so many seconds.
SYNC = 5
KEY = ("image", "question", "model", "revision", "settings", "encoder")
OWN_FILE = re.compile(r"\.?[0-9a-f]{24}\.safetensors(\.\d+)?")  # finished, or as write_atomically begins it
TYPES = {float: "REAL", int: "INTEGER", str: "TEXT"}


@dataclass(frozen=True, eq=False)
class Answer:
    """What a back end said about one image.

    name: for people, such as LLVIP/test/190001. image: fingerprint of the pixels. model, revision: what answered.
    settings: all else that decides the answer, JSON. encoder: where the features come from. seconds: time per image.
    tokens: rows of the features. asked: when, UTC.
    """

    name: str
    image: str
    question: str
    text: str
    backend: str
    model: str
    revision: str
    settings: str
    encoder: str
    seconds: float
    tokens: int
    asked: str
    kept: Tensor | Callable[[], Tensor] = field(repr=False)  # the features in half precision, or what reads them

    @property
    def features(self) -> Tensor:
        """[tokens,D] float32; from a store they are read anew each time, so that thousands of answers stay small."""
        return (self.kept if isinstance(self.kept, Tensor) else self.kept()).float()


COLUMNS = {f.name: TYPES[f.type] for f in fields(Answer) if f.name != "kept"}


class LazyFeatures(Sequence):
    """The features [L,D] of answers, each read when it is indexed: a data set of thousands without the memory."""

    def __init__(self, answers: Sequence[Answer]):
        self.answers = answers

    def __len__(self) -> int:
        return len(self.answers)

    def __getitem__(self, index: int) -> Tensor:
        return self.answers[index].features


def image_fingerprint(image: Tensor) -> str:
    """Digest of the pixels of an image [C,H,W] in 0..1 as 8-bit values: the same for a png and for a tensor."""
    pixels = to_uint8(image)
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(pixels)
    return digest.hexdigest()


def answer_key(record: dict) -> str:
    """The key under which an answer is kept, from its fields named in `KEY`: the same key is not asked twice."""
    return hashlib.sha256(json.dumps([record[column] for column in KEY]).encode()).hexdigest()


class Store:
    """Answers in a folder. Open it with `open_store`."""

    def __init__(self, folder: Path):
        self.folder, self._swept, self._synced = folder, False, -SYNC
        columns = ", ".join(f"{name} {kind} NOT NULL" for name, kind in COLUMNS.items())
        with self._base() as base:
            base.execute(f"CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, {columns}, file TEXT NOT NULL)")
            there = [row[1] for row in base.execute("PRAGMA table_info(answers)")]
        if there != ["key", *COLUMNS, "file"]:
            raise FusionError(
                f"{self._path} should have the columns key, {', '.join(COLUMNS)}, file, but has {', '.join(there)}: "
                "another version of fusionlib made it; move the folder away and ask again"
            )

    def __len__(self) -> int:
        with self._base() as base:
            return base.execute("SELECT COUNT(*) FROM answers").fetchone()[0]

    def find(self, keys: Iterable[str]) -> dict[str, Answer]:
        """The answers with these keys, in their order, as far as they are there; their features are read later.

        An answer whose file of features somebody has removed is left out with a warning, so that it is asked again.
        """
        keys = list(keys)
        with self._base() as base:
            rows = {row[0]: row[1:] for row in self._rows(base, keys)}
        gone = {file for file in {row[-1] for row in rows.values()} if not self._file(file).exists()}
        lost = [key for key, row in rows.items() if row[-1] in gone]
        if lost:
            warnings.warn(
                f"{self._file(min(gone))} is not there any more: the features of {len(lost)} answers are lost, which "
                "have to be asked for again",
                stacklevel=2,
            )
        return {key: self._answer(key, rows[key]) for key in keys if key in rows and rows[key][-1] not in gone}

    def put(self, answers: Iterable[Answer]) -> dict[str, Answer]:
        """Add a batch of answers, all of them or, on a crash, none; what another process has added meanwhile stays.

        Returns:
            The answers as they are stored, by key.
        """
        given = {answer_key(vars(a)): a for a in answers}
        durable = time.monotonic() > self._synced + SYNC
        with self._base() as base:
            base.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
            base.execute("BEGIN IMMEDIATE")
            if not self._swept:
                self._sweep(base)
            rows = {row[0]: row[1:] for row in self._rows(base, list(given)) if self._file(row[-1]).exists()}
            new = {key: answer for key, answer in given.items() if key not in rows}
            if new:
                name = hashlib.sha256("".join(sorted(new)).encode()).hexdigest()[:24] + ".safetensors"
                data = save({key: a.features.to(torch.float16).contiguous() for key, a in new.items()})
                write_atomically(self._file(name), data)
                if durable:
                    with open(self._file(name), "r+b") as file:
                        os.fsync(file.fileno())
                added = {key: (*(getattr(a, column) for column in COLUMNS), name) for key, a in new.items()}
                marks = ", ".join("?" * (len(COLUMNS) + 2))
                base.executemany(
                    f"INSERT OR REPLACE INTO answers VALUES ({marks})", [(key, *row) for key, row in added.items()]
                )
                rows |= added
        self._swept, self._synced = True, time.monotonic() if durable else self._synced
        return {key: self._answer(key, rows[key]) for key in given}

    def frame(self) -> pd.DataFrame:
        """All records without their features, oldest first."""
        with self._base() as base:
            return pd.read_sql_query("SELECT * FROM answers ORDER BY rowid", base)

    @property
    def _path(self) -> Path:
        return self.folder / "answers.sqlite"

    def _file(self, name: str) -> Path:
        return self.folder / "features" / name

    @contextmanager
    def _base(self) -> Iterator[sqlite3.Connection]:
        """A connection for one operation, which is committed or undone: nothing stays open, forks do no harm."""
        try:
            (self.folder / "features").mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path, timeout=60, isolation_level=None)) as base, base:
                yield base
        except (sqlite3.Error, OSError) as error:
            raise FusionError(
                f"{self._path} should be a store of answers, but cannot be used ({error}): look for another process "
                "that holds it, for permissions and for free disk space; if it is damaged, move the folder away"
            ) from error

    @staticmethod
    def _rows(base: sqlite3.Connection, keys: Sequence[str]) -> Iterator[tuple]:
        for start in range(0, len(keys), 500):  # SQLite takes 999 parameters, or more
            some = keys[start : start + 500]
            yield from base.execute(f"SELECT * FROM answers WHERE key IN ({', '.join('?' * len(some))})", some)

    def _sweep(self, base: sqlite3.Connection) -> None:
        """Remove files without records. Whoever holds the write lock knows that they belong to processes that died."""
        known = {row[0] for row in base.execute("SELECT DISTINCT file FROM answers")}
        for path in (self.folder / "features").iterdir():
            if OWN_FILE.fullmatch(path.name) and path.name not in known:
                path.unlink()

    def _answer(self, key: str, row: Sequence) -> Answer:
        *record, file = row
        return Answer(*record, kept=functools.partial(self._read, file, key))

    def _read(self, file: str, key: str) -> Tensor:
        path = self._file(file)
        try:
            with safe_open(path, framework="pt") as tensors:
                return tensors.get_tensor(key)
        except Exception as error:
            raise FusionError(
                f"{path} should hold features of answers, but cannot be read ({error}): "
                "delete this file, and its answers are asked for again"
            ) from error


def open_store(folder: str | Path) -> Store:
    """Open the store in a folder, or make an empty one there.

    Raises:
        FusionError: what is there is no store, or one of another version.
    """
    return Store(Path(folder))
