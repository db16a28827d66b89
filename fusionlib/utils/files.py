"""Files: reading, atomic writing, locking of a folder, digests."""

import hashlib
import json
import os
import stat
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from fusionlib.utils.errors import FusionError


def read_bytes(path) -> bytes:
    """The content of an image file; raises FusionError if it is missing, empty, not a regular file or not readable."""
    require_regular_file(path)
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: not a valid file name
        reason = getattr(error, "strerror", None) or error
        raise FusionError(f"{path}: cannot be read ({reason}); check the path and its permissions") from None
    if not data:
        raise FusionError(f"{path}: expected an image file, found an empty file; copy it again")
    return data


def require_regular_file(path):
    """Refuse a pipe, on which reading would block, and a device, which may have no end."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # opening the file will raise the error
        return
    if not stat.S_ISREG(mode):
        found = "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
        raise FusionError(f"{path}: expected an image file, found {found}; give the path of a file")


def write_atomically(path, data: bytes) -> None:
    """Write a file completely or, on failure, not at all; missing parent folders are created."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)


def fingerprint(value) -> str:
    """Hexadecimal digest of a JSON-like value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]


def file_fingerprint(path: str | Path) -> str:
    """SHA-256 of a file's content."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


@contextmanager
def folder_lock(folder: Path):
    """Hold an exclusive lock on a folder; the lock is released if the process dies.

    Raises:
        FusionError: another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise FusionError(f"{folder}: another process works in this folder: wait for it, or choose another folder "
                          "(--out of a run)") from None


def write_json(path: Path, value) -> None:
    """Write a value as JSON, atomically."""
    write_atomically(path, (json.dumps(value, indent=1, default=str) + "\n").encode())


def read_json(path: Path) -> dict | None:
    """The content of a JSON file; None if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
