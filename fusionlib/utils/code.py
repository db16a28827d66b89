"""What a result depends on: the code that computes it, found by following imports."""

import ast
import functools
from collections.abc import Callable
from pathlib import Path

from fusionlib.utils.files import file_fingerprint, fingerprint

PACKAGE = Path(__file__).resolve().parent.parent


def code_of(*entries: Callable) -> str:
    """Digest of the code that functions or classes depend on: a result whose digest differs has to be made again.

    It covers the modules that they are defined in and every module of the package that these import, directly or not,
    inside of functions too. Imports are read from the syntax tree; nothing is executed. A name that a package passes on
    counts as an import of the module that defines it.

    Args:
        entries: functions or classes of the package.

    Returns:
        Hexadecimal digest.
    """
    known, todo = set(), [_file(entry.__module__) for entry in entries]
    while todo:
        if (path := todo.pop()) not in known:
            known.add(path)
            todo += _imported(path)
    return fingerprint([[path.relative_to(PACKAGE).as_posix(), file_fingerprint(path)] for path in sorted(known)])


@functools.cache
def _imported(path: Path) -> list[Path]:
    """The files of the package that a file imports."""
    files = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fusionlib"):
            files += [_file(node.module, name.name) for name in node.names]
        elif isinstance(node, ast.Import):
            files += [_file(name.name) for name in node.names if name.name.startswith("fusionlib.")]
    return [file for file in files if file != PACKAGE / "__init__.py"]


def _file(module: str, name: str = "") -> Path:
    """The file of a module, or of what is imported from it by name: a submodule, or something that it passes on."""
    place = PACKAGE.joinpath(*module.split(".")[1:])
    if not place.is_dir():
        return place.with_suffix(".py")
    if name and ((place / f"{name}.py").is_file() or (place / name).is_dir()):
        return _file(f"{module}.{name}")
    source = _passed_on(place / "__init__.py").get(name)
    return place / f"{source}.py" if source else place / "__init__.py"


@functools.cache
def _passed_on(path: Path) -> dict[str, str]:
    """Name -> submodule, of a package whose names load on first use (`lazy_loader.attach`)."""
    calls = [node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Call)]
    tables = [ast.literal_eval(call.args[2]) for call in calls if getattr(call.func, "attr", "") == "attach"]
    return {name: module for table in tables for module, names in table.items() for name in names}
