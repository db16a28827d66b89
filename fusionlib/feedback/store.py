"""One store for answers and their features, whichever back end gave them.

Records lie in SQLite: whole batches appear or do not, and several processes may write. Features lie beside it in
safetensors files of one batch each, half precision, read one by one when they are needed.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from fusionlib.errors import FusionError


@dataclass(frozen=True)
class Answer:
    """What a back end said about one image.

    name: for people, such as LLVIP/test/190001. image: fingerprint of the pixels. settings: decoding settings, JSON.
    seconds: time per image. features: [L,D] float32 with one row per token.
    """

    name: str
    image: str
    question: str
    text: str
    backend: str
    model: str
    settings: str
    encoder: str
    seconds: float
    features: Tensor


COLUMNS = tuple(f.name for f in fields(Answer) if f.name != "features")


def image_fingerprint(image: Tensor) -> str:
    """Digest of the pixels of an image [C,H,W] in 0..1 as 8-bit values: the same for a png and for a tensor."""
    pixels = image.detach().cpu().mul(255).round().clamp(0, 255).byte().contiguous()
    return hashlib.sha256(repr(tuple(pixels.shape)).encode() + pixels.numpy().tobytes()).hexdigest()


def answer_key(image: str, question: str, backend: str, model: str, settings: str, encoder: str) -> str:
    """The key under which an answer is kept: nothing with the same key is asked twice."""
    return hashlib.sha256(json.dumps([image, question, backend, model, settings, encoder]).encode()).hexdigest()


class Store:
    """Answers in a folder. Open it with `open_store`."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "features").mkdir(parents=True, exist_ok=True)
        columns = ", ".join(f"{c} {'REAL' if c == 'seconds' else 'TEXT'} NOT NULL" for c in COLUMNS)
        with closing(self._connect()) as base, base:
            base.execute(
                f"CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, {columns}, file TEXT NOT NULL, "
                "asked TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)"
            )

    def __len__(self) -> int:
        with closing(self._connect()) as base:
            return base.execute("SELECT COUNT(*) FROM answers").fetchone()[0]

    def __contains__(self, key: str) -> bool:
        with closing(self._connect()) as base:
            return base.execute("SELECT 1 FROM answers WHERE key = ?", [key]).fetchone() is not None

    def get(self, key: str) -> Answer:
        """The answer with this key; FusionError when it is not there or its features are damaged."""
        with closing(self._connect()) as base:
            row = base.execute(f"SELECT {', '.join(COLUMNS)}, file FROM answers WHERE key = ?", [key]).fetchone()
        if row is None:
            raise FusionError(f"{self.folder} has no answer with the key {key[:12]}: ask for it first")
        path = self.folder / "features" / row[-1]
        try:
            with safe_open(path, framework="pt") as file:
                features = file.get_tensor(key).float()
        except Exception as error:
            raise FusionError(
                f"{path} should hold the features of {row[0]}, but cannot be read ({error}): "
                f"delete the folder {self.folder} and ask again"
            ) from error
        return Answer(**dict(zip(COLUMNS, row)), features=features)

    def put(self, answers: Iterable[Answer]) -> None:
        """Add a batch of answers: all of them or, on a crash, none."""
        batch = {answer_key(a.image, a.question, a.backend, a.model, a.settings, a.encoder): a for a in answers}
        if not batch:
            return
        name = hashlib.sha256("".join(sorted(batch)).encode()).hexdigest()[:24] + ".safetensors"
        path = self.folder / "features" / name
        unfinished = path.with_name(f"{name}.{os.getpid()}.part")
        save_file({k: a.features.to(torch.float16).contiguous() for k, a in batch.items()}, unfinished)
        os.replace(unfinished, path)
        marks = ", ".join("?" * (len(COLUMNS) + 2))
        rows = [[k, *(getattr(a, c) for c in COLUMNS), name] for k, a in batch.items()]
        with closing(self._connect()) as base, base:
            base.executemany(f"INSERT OR REPLACE INTO answers (key, {', '.join(COLUMNS)}, file) VALUES ({marks})", rows)

    def frame(self) -> pd.DataFrame:
        """All records without their features, oldest first."""
        with closing(self._connect()) as base:
            return pd.read_sql_query("SELECT * FROM answers ORDER BY asked, name", base)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.folder / "answers.sqlite", timeout=60)


def open_store(folder: str | Path) -> Store:
    """Open the store in a folder, or make an empty one there."""
    return Store(Path(folder))
