"""The advice that `instruction="auto"` follows, for images and folders of images."""

from pathlib import Path

from tqdm.auto import tqdm

from fusionlib.data import common_range
from fusionlib.data.image_types import to_image, to_infrared
from fusionlib.data.infrared import Reading
from fusionlib.inference.folder import pairs_of
from fusionlib.inference.pair import VIDEO_SUFFIXES, advice, check_settings, register, require_text_dfh
from fusionlib.utils.errors import FusionError, print_problems


def advise_files(ir, visible, out=None, *, align: str | None = None, ir_range=None, invert_ir: bool = False,
                 problems: list[str] | None = None) -> dict[str, str | None]:  # fmt: skip
    """The advice about each pair of two folders, patterns or images, as `folder.fuse_files` would take them.

    `out` is a folder among the sources whose images are none. What cannot be read is reported on stderr and added to
    `problems`.

    Returns:
        {name of the pair: the instruction that "auto" stands for, None where no damage is found}.

    Raises:
        FusionError: invalid settings, videos, no common name, or nothing that can be read.
    """
    check_settings("auto", align)
    require_text_dfh()
    pairs, unmatched = pairs_of(ir, visible, Path(out).expanduser() if out else None)
    if pairs[0][2].suffix.lower() in VIDEO_SUFFIXES:
        raise FusionError(f"{visible}: expected images, found a video; take a frame of each, since the advice of auto "
                          "comes from the first frames")
    reading = common_range.of_files(Reading(ir_range, bool(invert_ir)), [files[0] for _, *files in pairs])
    advices, unread = {}, []
    for name, infrared, colour in tqdm(pairs, desc="looking", leave=False, disable=len(pairs) < 2):
        try:
            converted = to_infrared(infrared, str(infrared), reading), to_image(colour, str(colour))
            advices[name] = advice(*register(*converted, align, check=False)[:2])
        except FusionError as error:
            unread.append(str(error))
    for kind, found in (("not matched", unmatched), ("not read", unread)):
        print_problems(kind, found)
    if problems is not None:
        problems += unmatched + unread
    if not advices:
        raise FusionError(f"{visible}: expected at least one image that can be read, found none among {len(pairs)}, "
                          f"the first problem being: {unread[0]}")
    return advices
