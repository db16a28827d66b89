"""The code of this package: the digest of what a result depends on, and where other processes import it from."""

import ast
import functools
import os
from collections.abc import Callable
from pathlib import Path

from fusionlib.utils.files import file_fingerprint, fingerprint

PACKAGE = Path(__file__).resolve().parent.parent


def code_of(*entries: Callable) -> str:
    """Hexadecimal digest of the code that functions or classes of the package depend on.

    A result must be computed again if its digest has changed. The digest covers the modules that define `entries` and
    all modules of the package that these import, directly or indirectly, also inside functions. Imports are read from
    the syntax tree; nothing is executed. A name re-exported by a package counts as an import of its defining module.
    """
    visited, queue = set(), [_file(entry.__module__) for entry in entries]
    while queue:
        if (path := queue.pop()) not in visited:
            visited.add(path)
            queue += _imported(path)
    return fingerprint([[path.relative_to(PACKAGE).as_posix(), file_fingerprint(path)] for path in sorted(visited)])


def search_path() -> str:
    """The PYTHONPATH with which another process imports this copy of the package, whichever else is installed."""
    package = str(PACKAGE.parent)
    others = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each not in ("", package)]
    return os.pathsep.join([package, *others])


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
    """The file of a module or, with `name`, of its submodule or re-exported object of that name."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    if not path.is_dir():
        return path.with_suffix(".py")
    if name and ((path / f"{name}.py").is_file() or (path / name).is_dir()):
        return _file(f"{module}.{name}")
    source = _reexported(path / "__init__.py").get(name)
    return path / f"{source or '__init__'}.py"


@functools.cache
def _reexported(path: Path) -> dict[str, str]:
    """{name: submodule} of a package whose names load on first use (`lazy_loader.attach`)."""
    calls = [node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Call)]
    tables = [ast.literal_eval(call.args[2]) for call in calls if getattr(call.func, "attr", "") == "attach"]
    return {name: module for table in tables for module, names in table.items() for name in names}
