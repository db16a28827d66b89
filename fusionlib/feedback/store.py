"""The store: answers of any back end and their features, in a folder.

Records are rows of an SQLite table; features are in safetensors files beside it, one per batch, in half precision, and
are read one answer at a time. A batch is written under SQLite's write lock, the features before the records: no record
lacks its features, and a process killed at any moment leaves at most a file without records, which the next writer
removes. Several processes and machines may write; they wait for each other up to a minute. A network folder needs
working file locks, as NFS and SMB have by default; SQLite's write-ahead log, which needs shared memory, is not used.
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
from fusionlib.feedback.views import View, side_by_side
from fusionlib.utils.errors import FusionError, encodable
from fusionlib.utils.files import write_atomically

# Seconds between batches that wait until the disk has written them (about 20 ms), in case of a power failure.
SYNC = 5
KEY = ("image", "question", "model", "revision", "settings", "encoder")
FEATURES_FILE = re.compile(r"\.?[0-9a-f]{24}\.safetensors(\.\d+)?")  # complete, or as write_atomically begins it
TYPES = {float: "REAL", int: "INTEGER", str: "TEXT"}


@dataclass(frozen=True, eq=False)
class Answer:
    """A back end's answer to a question about one image.

    name: human-readable, such as LLVIP/test/190001. image: fingerprint of the pixels. backend, model, revision,
    settings (JSON), encoder: see `fusionlib.feedback.backends`. seconds: time per image. tokens: rows of the features.
    asked: time of the question, UTC, ISO 8601. kept: the features in half precision, or a function that reads them.
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
    kept: Tensor | Callable[[], Tensor] = field(repr=False)

    @property
    def features(self) -> Tensor:
        """[tokens,D] float32; those of a stored answer are read from disk each time, which saves memory."""
        return (self.kept if isinstance(self.kept, Tensor) else self.kept()).float()


COLUMNS = {f.name: TYPES[f.type] for f in fields(Answer) if f.name != "kept"}


class LazyFeatures(Sequence):
    """A lazy sequence of the features [L,D] of answers, each read from disk when it is indexed."""

    def __init__(self, answers: Sequence[Answer]):
        self.answers = answers

    def __len__(self) -> int:
        return len(self.answers)

    def __getitem__(self, index: int) -> Tensor:
        return self.answers[index].features


def answers_with_sides(answers: Iterable[Answer]) -> set[str]:
    """The names of the answers that say left or right: of a mirrored image they would be wrong."""
    return {answer.name for answer in answers if re.search(r"\b(left|right)\b", answer.text, re.IGNORECASE)}


def image_fingerprint(image: View) -> str:
    """Digest of shape and 8-bit pixels of an image [C,H,W] in 0..1, or of several side by side, as of its PNG file."""
    pixels = to_uint8(side_by_side(image))
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def answer_key(record: dict) -> str:
    """The key of an answer in the store: a digest of its fields named in `KEY`."""
    return hashlib.sha256(json.dumps([record[column] for column in KEY]).encode()).hexdigest()


class Store:
    """Answers in a folder. Open it with `open_store`."""

    def __init__(self, folder: Path):
        self.folder, self._path = folder, folder / "answers.sqlite"
        self._swept, self._synced = False, -SYNC
        columns = ", ".join(f"{name} {kind} NOT NULL" for name, kind in {**COLUMNS, "file": "TEXT"}.items())
        with self._connect() as connection:
            connection.execute(f"CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, {columns})")
            found = [row[1] for row in connection.execute("PRAGMA table_info(answers)")]
            parts = connection.execute("SELECT type, name FROM sqlite_master WHERE name NOT GLOB 'sqlite_*'").fetchall()
        if found != ["key", *COLUMNS, "file"]:
            raise FusionError(f"{self._path} should have the columns key, {', '.join(COLUMNS)}, file, but has "
                              f"{', '.join(found)}: another version of fusionlib made it; move the folder away and "
                              "ask again")
        if parts != [("table", "answers")]:  # reading a view may never end, and a trigger changes other rows
            raise FusionError(f"{self._path} should have the table answers alone, but has {' '.join(parts[-1])}: "
                              "another program made it; move the folder away and ask again")

    def __len__(self) -> int:
        with self._connect() as connection:
            return connection.execute("SELECT COUNT(*) FROM answers").fetchone()[0]

    def find(self, keys: Iterable[str]) -> dict[str, Answer]:
        """The stored answers among these keys, in their order; features are read later.

        Answers whose file of features is missing are left out with a warning, so that they are asked for again.
        """
        keys = list(keys)
        with self._connect() as connection:
            rows = self._rows(connection, keys)
        missing = {file for file in {row[-1] for row in rows.values()} if not self._file(file).is_file()}
        found = {key: self._answer(key, rows[key]) for key in keys if key in rows and rows[key][-1] not in missing}
        if missing:
            warnings.warn(f"{self._file(min(missing))} is missing: the features of {len(rows) - len(found)} answers "
                          "are lost; ask for these answers again", stacklevel=2)
        return found

    def put(self, answers: Iterable[Answer]) -> dict[str, Answer]:
        """Add a batch of answers, all of them or, on a crash, none; answers that are already stored stay as they are.

        Returns:
            The answers as they are stored, by key.
        """
        batch = {answer_key(vars(a)): a for a in answers}
        durable = time.monotonic() > self._synced + SYNC
        with self._connect() as connection:
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
            connection.execute("BEGIN IMMEDIATE")
            if not self._swept:
                self._sweep(connection)
            stored = self._rows(connection, list(batch)).items()
            rows = {key: row for key, row in stored if self._file(row[-1]).is_file()}
            new = {key: answer for key, answer in batch.items() if key not in rows}
            if new:
                name = hashlib.sha256("".join(sorted(new)).encode()).hexdigest()[:24] + ".safetensors"
                features = {key: a.features.to(torch.float16).contiguous() for key, a in new.items()}
                write_atomically(self._file(name), save(features))
                if durable:
                    with open(self._file(name), "r+b") as file:
                        os.fsync(file.fileno())
                added = [(key, *map(_storable, (getattr(a, column) for column in COLUMNS)), name)
                         for key, a in new.items()]  # fmt: skip
                marks = ", ".join("?" * (len(COLUMNS) + 2))
                connection.executemany(f"INSERT OR REPLACE INTO answers VALUES ({marks})", added)
                rows |= {key: row for key, *row in added}
        self._swept, self._synced = True, time.monotonic() if durable else self._synced
        return {key: self._answer(key, rows[key]) for key in batch}

    def frame(self) -> pd.DataFrame:
        """All records without their features, oldest first."""
        with self._connect() as connection:
            return pd.read_sql_query("SELECT * FROM answers ORDER BY rowid", connection)

    def _file(self, name: str) -> Path:
        return self.folder / "features" / name

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        """A connection for one operation, committed or rolled back at its end, so that a fork inherits none."""
        try:
            (self.folder / "features").mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path, timeout=60, isolation_level=None)) as connection, connection:
                yield connection
        except (sqlite3.Error, pd.errors.DatabaseError, OSError) as error:
            raise FusionError(f"{self._path} should be a store of answers, but cannot be used ({error}): look for "
                              "another process that locks it, for permissions and for free disk space; if it is "
                              "damaged, move the folder away") from error

    def _rows(self, connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, list]:
        query = "SELECT * FROM answers WHERE key IN (SELECT value FROM json_each(?))"
        rows = {key: row for key, *row in connection.execute(query, [json.dumps(keys)])}
        for row in rows.values():
            wrong = [name for (name, kind), value in zip(COLUMNS.items(), row) if TYPES.get(type(value)) != kind]
            if wrong or not FEATURES_FILE.fullmatch(str(row[-1])):
                raise FusionError(f"{self._path} should hold records of answers, but {', '.join(wrong) or 'file'} of "
                                  "one is damaged: move the folder away and ask again")
        return rows

    def _sweep(self, connection: sqlite3.Connection) -> None:
        """Remove files without records; under the write lock these can only be left from processes that died."""
        recorded = {row[0] for row in connection.execute("SELECT DISTINCT file FROM answers")}
        for path in (self.folder / "features").iterdir():
            if FEATURES_FILE.fullmatch(path.name) and path.name not in recorded:
                path.unlink()

    def _answer(self, key: str, row: Sequence) -> Answer:
        *values, file = row
        record = dict(zip(COLUMNS, values))
        return Answer(**record, kept=functools.partial(self._read, file, key, record["tokens"]))

    def _read(self, file: str, key: str, tokens: int) -> Tensor:
        path = self._file(file)
        try:
            with safe_open(path, framework="pt") as tensors:
                features = tensors.get_tensor(key)
            if features.ndim != 2 or len(features) != tokens or not features.numel() or not features.isfinite().all():
                raise ValueError(f"expected finite numbers of {tokens} tokens, found others, {list(features.shape)}")
            return features
        except Exception as error:
            raise FusionError(f"{path} should hold features of answers, but cannot be read ({error}): delete this "
                              "file, and ask for its answers again") from error


def _storable(value):
    return encodable(value) if isinstance(value, str) else value


def open_store(folder: str | Path) -> Store:
    """Open the store in a folder, or create an empty one.

    Raises:
        FusionError: not a store, or one of another version.
    """
    return Store(Path(folder))
