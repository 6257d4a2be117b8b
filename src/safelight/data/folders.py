"""What the names of folders say: the split, the classes, kohya's repeats."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from safelight.config import UserError
from safelight.data.config import Data
from safelight.data.entries import Entries, split_by_folder
from safelight.data.listing import Listing
from safelight.data.source import Notes
from safelight.data.tree import ArchivesTree, Tree

KOHYA = re.compile(r"(\d+)_(.+)")  # repeats and class
BESIDE = ("reg", "log", "logs", "model", "models", "output", "sample", "samples")  # img/, in a project
YEARS = range(1900, 2100)  # no repeats, unless the recipe says so


@dataclass(frozen=True)
class Contents:
    """A folder or archive before its layout is known."""

    path: str
    tree: Tree
    listing: Listing
    config: Data
    asides: Notes = field(default_factory=Notes)  # of layouts that were tried before the one that is read

    @property
    def shards(self) -> Mapping[str, str]:
        """Folders that are archives, and what each is a part of."""
        return self.tree.shards if isinstance(self.tree, ArchivesTree) else {}

    @cached_property
    def stems(self) -> Mapping[str, str]:
        """Images by their name without its ending."""
        return {image.rpartition(".")[0]: image for image in self.listing.images}


def below(
    names: Sequence[str], shards: Mapping[str, str], config: Data
) -> tuple[list[str], NDArray[np.int8] | None]:
    """Names below train/ and test/, below a folder that holds everything, and below shards; their sides."""
    if config.rules > 1:  # a zip from Windows, unpacked elsewhere
        names = [name.replace("\\", "/") for name in names]
    if shards:
        parts = [name.partition("/") for name in names]
        named = [f"{shards.get(top, top)}/{rest}" if rest else top for top, _, rest in parts]
        names = [name.removeprefix("/") for name in named]
    under, sides = split_by_folder(names, config.rules)
    while config.rules > 1 and under:
        tops = {name.partition("/")[0] if "/" in name else "" for name in under}
        if "" in tops or len(tops) > 1 or KOHYA.fullmatch(min(tops)):
            break
        under = [name.partition("/")[2] for name in under]
        if sides is None:
            under, sides = split_by_folder(under)
    return under, sides


def by_folder(
    contents: Contents, files: Sequence[str] | None = None, names: Sequence[str] | None = None
) -> Entries:
    """Every image, or those files, with the first subfolder as its class. names: to read for theirs."""
    files = contents.listing.images if files is None else files
    under, sides = below(files if names is None else names, contents.shards, contents.config)
    labels = [name.partition("/")[0] if "/" in name else None for name in under]
    return Entries(
        files,
        labels if contents.config.labels else (),
        "numbers" if contents.config.rules > 1 else "text",
        sides=sides,
        bad=contents.listing.bad,
    )


def by_kohya(contents: Contents, files: Sequence[str] | None = None) -> Entries | None:
    """The images of folders 10_name: each is drawn ten times an epoch, is of the class name, and has the name
    as its caption where it has no other.

    None where folders are called otherwise, or are merely numbered, 1_cat, 2_dog, or dated, 2019_trip.
    Raises UserError where the recipe says that they are kohya's.
    """
    files = contents.listing.images if files is None else files
    stated = contents.config.layout == "kohya"
    under, sides = below(files, contents.shards, contents.config)
    kept = [place for place, name in enumerate(under) if name.partition("/")[0].lower() not in BESIDE]
    img = {under[place].partition("/")[0].lower() for place in kept} <= {"img", "image", "images"}
    regular = [files[place] for place in sorted({*range(len(files))} - {*kept})] if img and kept else []
    if regular:  # img/10_name beside reg/1_name
        files, sides = [files[place] for place in kept], None if sides is None else sides[kept]
        under = [under[place].partition("/")[2] for place in kept]
    tops = {name.partition("/")[0] if "/" in name else "" for name in under}
    loose = (
        [file for file, name in zip(files, under, strict=True) if "/" not in name] if len(tops) > 1 else []
    )
    if 2 * len(loose) < len(files) and loose and contents.config.rules > 1:
        inside = [place for place, name in enumerate(under) if "/" in name]
        files, sides = [files[place] for place in inside], None if sides is None else sides[inside]
        under, tops = [under[place] for place in inside], tops - {""}
    matches = {top: match for top in tops if (match := KOHYA.fullmatch(top))}
    if len(matches) < len(tops) or not tops:
        if stated:
            raise UserError(
                f"data.layout: {contents.path} has folders other than kohya's 10_name; use layout=auto"
            )
        return None
    numbers = sorted(int(match[1]) for match in matches.values())
    counted = len(tops) > 1 and numbers in ([*range(len(tops))], [*range(1, len(tops) + 1)])
    years = any(number in YEARS for number in numbers)
    if not stated and (counted or years or any(match[1].startswith("0") for match in matches.values())):
        return None
    folders = [matches[name.partition("/")[0]] for name in under]
    entries = Entries(
        files, [match[2] for match in folders] if contents.config.labels else (), sides=sides,
        spare=[match[2] for match in folders] if contents.config.captions == "auto" else (),
        weights=[float(match[1]) for match in folders], bad=contents.listing.bad,
    )  # fmt: skip
    entries.notes.add_all(
        "image beside kohya's img/", regular, "regularisation, samples and logs are not used"
    )
    entries.notes.add_all(
        "image beside kohya's folders", loose, "sd-scripts reads folders alone, and so does this"
    )
    return entries
