"""Which image goes with which answer: its own in most runs, another one's in the control `shuffled`."""

import json
from collections.abc import Sequence
from pathlib import Path

from fusionlib.data.pairs import write_atomically
from fusionlib.errors import FusionError
from fusionlib.feedback.store import Answer, Store, answer_key


def write_assignment(path: str | Path, answers: Sequence[Answer]) -> None:
    """Write the key of each answer under its name, as JSON; names must differ.

    Raises:
        FusionError: two answers have the same name.
    """
    keys = {answer.name: answer_key(vars(answer)) for answer in answers}
    if len(keys) < len(answers):
        raise FusionError(f"{path}: expected a name for each of {len(answers)} answers, found {len(keys)} different "
                          "ones; give ask the names of the images")
    write_atomically(path, json.dumps(keys, indent=1).encode())


def read_assignment(path: str | Path, store: Store, names: Sequence[str]) -> list[Answer]:
    """The answers that `write_assignment` noted for these names, in their order; features are read when needed.

    Raises:
        FusionError: no such file, or a name or an answer that is missing.
    """
    try:
        keys = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise FusionError(f"{path}: expected the answers' keys, but it cannot be read ({error}): ask again") from error
    if unknown := [name for name in names if name not in keys]:
        raise FusionError(f"{path}: expected an answer for each of {len(names)} images, found none for {unknown[0]}; "
                          "ask about it too")
    found = store.find(keys[name] for name in names)
    if lost := [name for name in names if keys[name] not in found]:
        raise FusionError(f"{store.folder}: expected the answers that {path} names, found none for {lost[0]} and "
                          f"{len(lost) - 1} others; ask again")
    return [found[keys[name]] for name in names]
