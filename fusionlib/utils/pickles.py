"""Files of torch, looked at before they are read: reading must end, and take no more memory than the file has bytes.

torch's weights-only reader runs no code of a file, but a few bytes can make it hash a tuple of 2^60 elements.
"""

import pickletools
import zipfile
from collections.abc import Iterator

MOST = 1 << 20  # elements of a tuple with all that is in it; the largest in a file of weights has some ten
LONGEST_NAME = 300  # characters of a class or function, on longer ones torch's reader takes time quadratic in them
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}
_GETS = {"GET", "BINGET", "LONG_BINGET"}
_MARK = pickletools.markobject


def require_plain(path) -> None:
    """ValueError for a file of torch that may take a long time or much memory to read."""
    if not zipfile.is_zipfile(path):  # as torch wrote them before version 1.6: a number of pickles, then the tensors
        with open(path, "rb") as file:
            for _ in range(5):
                _require_small(pickletools.genops(file))
        return
    with zipfile.ZipFile(path) as parts:
        if any(part.compress_type for part in parts.infolist()):
            raise ValueError("its parts are compressed, as torch's are not")
        if sum(part.file_size for part in parts.infolist()) > path.stat().st_size:
            raise ValueError("its parts lie in the same place, as torch's do not")
        for part in parts.infolist():
            if part.filename.endswith("data.pkl"):
                _require_small(pickletools.genops(parts.read(part)))


def _require_small(opcodes: Iterator) -> None:
    """Follow a pickle without making anything: of each object, only the number of elements in it is known."""
    stack, memo = [], {}
    for opcode, argument, _ in opcodes:
        if opcode.name in ("GLOBAL", "INST") and (len(argument) > LONGEST_NAME or argument == "builtins bytearray"):
            raise ValueError(f"it names {argument[:40]}, which no network is made of")
        if opcode.name in _PUTS or opcode.name == "MEMOIZE":
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif opcode.name in _GETS:
            stack.append(memo[argument])
        elif opcode.name == "MARK":
            stack.append(None)
        else:
            size = 1 + sum(_popped(stack, opcode.stack_before))
            if size > MOST and "TUPLE" in opcode.name:
                raise ValueError("it has tuples of more elements than the file has bytes")
            stack += [min(size, MOST + 1)] * len(opcode.stack_after)


def _popped(stack, before) -> Iterator[int]:
    """The sizes of what an opcode takes from the stack, up to its mark if it takes all since then."""
    if _MARK in before:
        while (size := stack.pop()) is not None:
            yield size
    for _ in before[: before.index(_MARK)] if _MARK in before else before:
        yield stack.pop()
