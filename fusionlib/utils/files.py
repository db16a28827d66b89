"""Files: reading, atomic writing, digests."""

import errno
import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fusionlib.utils.errors import FusionError, first_line

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

WRITTEN = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")  # images
#: Of the files that are images; those of a kind that this OpenCV cannot decode are reported as unreadable.
IMAGE_SUFFIXES = (*WRITTEN, ".jpe", ".jfif", ".pgm", ".ppm", ".gif", ".avif", ".jp2")
LONGEST_IMAGE = 1 << 29  # bytes of a file: 8 for each pixel that an image may have
LONGEST_TEXT = 1 << 28  # bytes of a record or notebook
LONGEST_NAME = 255  # bytes of a file's name, in all common file systems
BEGUN = re.compile(r"(\..+)\.\d+(?:\.\w+)?", re.DOTALL)  # the name of a file that `beside` names
DEVICES = ("/dev", "/dev/fd", "/proc/self/fd")  # folders, where stdout may seem to be a file


def read_bytes(path) -> bytes:
    """The content of an image file; FusionError if it is missing, empty, too long, not regular or not readable."""
    require_regular_file(path)
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: not a valid file name
        reason = getattr(error, "strerror", None) or error
        raise FusionError(f"{path}: cannot be read ({reason}); check the path and its permissions") from None
    if not data:
        raise FusionError(f"{path}: expected an image file, found an empty file; copy it again")
    return data


def require_regular_file(path, wanted: str = "an image file", longest: float = LONGEST_IMAGE) -> None:
    """FusionError for what `not_a_file` names."""
    if found := not_a_file(path, longest):
        raise FusionError(f"{path}: expected {wanted}, found {found}; give the path of another file")


def not_a_file(path, longest: float) -> str:
    """What a path is, if not a regular file of at most `longest` bytes; "" where that cannot be known.

    Reading would block on a pipe, and never end on a device.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # opening the file will raise the error
        return ""
    if not stat.S_ISREG(found.st_mode):
        return "a folder" if stat.S_ISDIR(found.st_mode) else "a device, pipe or socket"
    return f"{found.st_size / 1e6:.4g} MB, at most {longest / 1e6:.3g} are read" if found.st_size > longest else ""


def absolute(path) -> Path:
    """The absolute path, without following links; `~` is the home folder."""
    return Path(os.path.abspath(os.path.expanduser(path)))


def below(folder: Path, name: str | Path, links: bool = True) -> Path:
    """The path in a folder of a name that a file states, such as a manifest, or that may be a link.

    Args:
        folder: the root.
        name: relative, without "..".
        links: whether a link may lead out of the folder; users link their data sets.

    Raises:
        FusionError: the name leads out of the folder, or is none that a file can have.
    """
    path = Path(name)
    try:
        valid = "\0" not in str(name) and all(len(os.fsencode(part)) <= LONGEST_NAME for part in path.parts)
    except UnicodeEncodeError:
        valid = False
    found = folder / path
    if not valid or path.anchor or ".." in path.parts or not (
            links or Path(os.path.realpath(found)).is_relative_to(os.path.realpath(folder))):
        raise FusionError(f"{str(name)[:LONGEST_NAME]!r}: expected the name of a file below {folder}, found one that "
                          "leads out of it or cannot be a name; correct it, or copy the file there")
    return found


def write_atomically(path, data: bytes) -> None:
    """Write a file completely or, on failure, not at all; missing parent folders are created.

    Raises:
        FusionError: the path is a device, a pipe or a socket, which would be replaced by the file.
        OSError: the path cannot be written.
    """
    path = Path(path)
    found = not_a_file(path, math.inf)
    if found not in ("", "a folder") or os.path.dirname(os.path.abspath(path)) in DEVICES:
        raise FusionError(f"{path}: expected a place for a file, found {found or 'that of a device'}; choose another "
                          "one")
    if found:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with begun(path) as temporary:
            temporary.write_bytes(data)
            if (size := temporary.stat().st_size) != len(data):
                raise OSError(errno.EIO, f"{size} of {len(data)} bytes were written")
            temporary.replace(path)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


@contextmanager
def begun(path: Path, suffix: str = "") -> Iterator[Path]:
    """The empty file beside a path that is written first; within it, it is moved there. On failure it is removed.

    Meanwhile it is locked, and the system gives the lock back when the process dies: see `remove_abandoned`.
    """
    temporary, file = beside(path, suffix), None
    try:
        file = os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666)  # which raises the system's own error
        if fcntl:
            with suppress(OSError):  # of a file system without locks, where nothing is removed
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            os.close(file)  # Windows moves no open file
        yield temporary
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    finally:
        if file is not None and fcntl:
            os.close(file)


def beside(path: Path, suffix: str = "") -> Path:
    """The file beside a path that this process writes first; a long name would grow too long, so it gets another."""
    return path.with_name(f"{_hidden(path)}.{os.getpid()}{suffix}")


def _hidden(path: Path) -> str:
    name = path.name if len(os.fsencode(path.name)) < LONGEST_NAME - 30 else fingerprint(os.fsencode(path.name).hex())
    return f".{name}"


def remove_abandoned(paths: Iterable[Path]) -> None:
    """Remove the files that processes began to write beside these paths (`begun`) before they were killed.

    Who still writes one holds its lock, on this host or another one that shares the disk; a process number says
    neither. Files that cannot be locked stay, so on Windows all do.
    """
    folders = {}
    for path in paths if fcntl else ():
        folders.setdefault(path.parent, set()).add(_hidden(path))
    for folder, names in folders.items():
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                found = BEGUN.fullmatch(entry.name)
                if found and found[1] in names and entry.is_file(follow_symlinks=False):
                    _remove_unlocked(entry.path)


def _remove_unlocked(path: str) -> None:
    with suppress(OSError):  # such as that of a lock which another one holds
        file = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
        finally:
            os.close(file)


#: What an OSError has as its number where a place cannot be written.
UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO,
              errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}  # fmt: skip


@contextmanager
def writing(path="a file", option="--out"):
    """Within it, a place that cannot be written raises FusionError, which offers to choose another one by `option`."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise FusionError(f"{error.filename or path}: cannot be written ({error.strerror}): make room or mend the "
                          f"permissions, or choose another place by {option}") from error


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


def write_json(path: Path, value) -> None:
    """Write a value as JSON, atomically."""
    write_atomically(path, (json.dumps(value, indent=1, default=str) + "\n").encode())


def read_text(path, wanted: str, mend: str, longest: int = LONGEST_TEXT) -> str:
    """The content of a UTF-8 file of at most `longest` bytes.

    Raises:
        FusionError: what was `wanted` and how to `mend` it: the file is missing, too long, not regular or no text.
    """
    require_regular_file(path, wanted, longest)
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FusionError(f"{path}: expected {wanted}, but it cannot be read ({error}); {mend}") from None


def load_json(path, wanted: str, mend: str, check: Callable | None = None):
    """The content of a JSON file, as by `read_text`.

    `check` is called with the content, and raises ValueError if it is something else, as validators of fastjsonschema
    do. Raises FusionError for that, too.
    """
    text = read_text(path, wanted, mend)
    try:
        content = parse_json(text)
        if check:
            check(content)
    except ValueError as error:
        raise FusionError(f"{path}: expected {wanted}, but it cannot be read ({first_line(error)}); {mend}") from None
    return content


def parse_json(text: str | bytes):
    """The content of JSON of any kind; ValueError for what is none, or nested too deeply."""
    try:
        return json.loads(text, parse_int=_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _number(digits):
    """The value of an integer in JSON; a float beyond 64 bits, since an int of 400 digits fits no other type."""
    return int(digits) if len(digits) < 19 else float(digits)


def read_json(path: Path, check: Callable | None = None) -> dict | None:
    """The object in a JSON file that passes the check of `load_json`; None if it is missing or damaged."""
    try:
        content = load_json(path, "a record", "make it again", check)
    except FusionError:
        return None
    return content if isinstance(content, dict) else None
