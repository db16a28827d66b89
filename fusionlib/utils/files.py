"""Files: whole-or-nothing writes, exclusive use of a folder, digests."""

import hashlib
import json
import os
import stat
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from fusionlib.utils.errors import FusionError


def read_bytes(path) -> bytes:
    """The content of a file; raises FusionError where it is missing, empty, no file or must not be read."""
    _refuse_what_is_no_file(path)
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise FusionError(f"{path}: cannot be read ({reason}); check the path and its permissions") from None
    if not data:
        raise FusionError(f"{path}: expected a picture, found an empty file; copy it again")
    return data


def _refuse_what_is_no_file(path):
    """A pipe would be waited for, and a device may have no end."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # whoever opens it will say why that is impossible
        return
    if not stat.S_ISREG(mode):
        found = "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
        raise FusionError(f"{path}: expected a picture, found {found}; give the path of a file")


def write_atomically(path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all; folders on the way are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(data)
    unfinished.replace(path)


def fingerprint(value) -> str:
    """Hexadecimal digest of a plain value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]


def file_fingerprint(path: str | Path) -> str:
    """sha256 of a file's bytes."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


@contextmanager
def folder_lock(folder: Path):
    """Nobody else works in this folder meanwhile; when a process dies, the system gives its lock back.

    Raises:
        FusionError: another process works in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise FusionError(f"{folder}: another process works in this folder: wait for it, or choose another folder, "
                          "which is --out of a run") from None


def write_json(path: Path, value) -> None:
    """Write JSON so that the file appears whole or not at all."""
    write_atomically(path, (json.dumps(value, indent=1, default=str) + "\n").encode())


def read_json(path: Path) -> dict | None:
    """The content of a JSON file; None where there is none, or a damaged one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
