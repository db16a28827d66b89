"""Locks between processes: one at a time in a folder, and which process works in which folders."""

import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fastjsonschema
from filelock import FileLock, Timeout

from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import read_json, write_json, writing

MOVING = "moving.lock"
_TEXTS = {"type": "array", "items": {"type": "string"}}
_check = fastjsonschema.compile({"type": "object", "properties": {"used": _TEXTS}})


@contextmanager
def folder_lock(folder: Path):
    """Hold an exclusive lock on a folder; the lock is released if the process dies.

    Raises:
        FusionError: another process holds the lock, or the folder cannot be written.
    """
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        with writing(folder):
            lock.acquire()  # which makes the folder
    except Timeout:
        raise FusionError(f"{folder}: another process works in this folder: wait for it, or choose another folder "
                          "(--out of a run)") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def lock_beside(folder: Path, wait: bool = True):
    """Hold an exclusive lock in a file beside a folder, so that the folder can be moved; it is released on death.

    Another process that holds it is waited for, which is printed.

    Raises:
        FusionError: without `wait`, another process holds the lock.
    """
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise FusionError(f"{folder}: another process computes these results: start again when it has "
                              "ended") from None
        print(f"{folder.name}: another process computes these results, which is waited for.", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class Presence:
    """The folders below `root` that this process uses, which other processes see for as long as it lives.

    A file in root/.fusionlib lists them, with a lock file that is held. Of each root a process has one: `presence`.
    """

    def __init__(self, root: Path):
        self._root, self._folder, self._used = root, root / ".fusionlib", []
        self._list = self._folder / f"{uuid.uuid4().hex}.json"
        self._lock = FileLock(self._list.with_suffix(".lock"), thread_local=False)
        with self.alone():
            self._lock.acquire()
            self._others()  # removes what dead processes left

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold off all other processes while folders are looked at and moved."""
        with FileLock(self._folder / MOVING):
            yield

    def use(self, folder: Path) -> None:
        """Tell that this process uses a folder below the root."""
        if folder not in self._used:
            self._used.append(folder)
            write_json(self._list, {"used": [path.relative_to(self._root).as_posix() for path in self._used]})

    def used_by_others(self, folder: Path) -> bool:
        """Whether another process uses a folder or one inside it; to be called within `alone`."""
        return any(folder in (path, *path.parents) for path in self._others())

    def _others(self) -> list[Path]:
        """The folders that other processes use; the files of dead processes are removed."""
        found = []
        for file in self._folder.glob("*.lock"):
            listing = file.with_suffix(".json")
            if listing == self._list or file.name == MOVING:
                continue
            try:
                with FileLock(file, timeout=0):
                    listing.unlink(missing_ok=True)
                file.unlink(missing_ok=True)
            except Timeout:
                found += [self._root / path for path in (read_json(listing, _check) or {}).get("used", [])]
        return found


_present = weakref.WeakValueDictionary()


def presence(root: Path) -> Presence:
    """The `Presence` of this process below a root; it ends with the last reference to it."""
    if (here := _present.get(root)) is None:
        _present[root] = here = Presence(root)
    return here
