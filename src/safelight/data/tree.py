"""Files below a folder, in an archive, or in several of them, alike: listed fast, opened by name.

A symbolic link that leads out of the folder is not followed unless the recipe says so: in data from
elsewhere it may point at any file of this machine. It is named as a bad file instead. Links within the
folder are followed, but not in circles. Archives are read in place; nothing is extracted.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar

from safelight import files
from safelight.config import UserError
from safelight.data.archives import Archive, TarTree, ZipTree, open_archive
from safelight.data.listing import (
    EXTRAS,
    HIDDEN,
    METADATA,
    RUN,
    SUFFIXES,
    Listing,
    is_hidden,
    is_sheet,
    suffix_of,
    without_suffix,
)
from safelight.data.masks import MaskTree
from safelight.data.source import BadItem

if TYPE_CHECKING:
    from datasets import Dataset


READABLE = 0o444  # whoever may read a file: one that could not be read is tried again when that changes
LINK_OUT = "a link out of the folder; data.follow_links=true follows it"


@dataclass(frozen=True)
class FolderTree:
    """A folder of the disk: files by name, "/" between folders."""

    kind: ClassVar = "folder"
    root: str
    follow_links: bool = False

    def open(self, name: str) -> IO[bytes]:
        """The file, to be closed by the caller. Raises OSError."""
        return files.opened(f"{self.root}/{name}")

    def scan(self) -> Listing:
        """Every file below, in one pass over the directories."""
        listing = Listing()
        for name, status in self._files("", frozenset(), listing):
            readable = status.st_mode & READABLE
            line = f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}\0{readable}\n"
            listing.take(name, status.st_size, line)
        return listing.settled()

    def _files(
        self, below: str, above: frozenset[tuple[int, int]], listing: Listing
    ) -> Iterator[tuple[str, os.stat_result]]:
        """Names and states of the files below a directory; above: the directories on the way to it."""
        try:
            status = os.stat(f"{self.root}/{below}")
            entries = list(os.scandir(f"{self.root}/{below}"))
        except OSError as error:
            listing.bad.append(f"{below} ({error.strerror})")
            return
        if below and {entry.name for entry in entries} >= RUN:
            listing.notes.add("run of safelight", below[:-1])
            return
        above |= {(status.st_dev, status.st_ino)}
        here = os.path.basename(below[:-1] or self.root)
        folders = {os.path.basename(self.root), here, *(without_suffix(entry.name) for entry in entries)}
        for entry in entries:
            name = f"{below}{entry.name}"
            if is_sheet(entry.name, folders):
                listing.notes.add("sheet of safelight", name)
                continue
            if is_hidden(entry.name):
                listing.notes.add(HIDDEN, name)
                continue
            try:
                link = entry.is_symlink()
                status = entry.stat()
            except OSError as error:
                listing.bad.append(f"{name} ({'a link to nothing' if link else error.strerror})")
                continue
            directory = stat.S_ISDIR(status.st_mode)
            if link and not self.follow_links and not self._within(name):
                if directory or suffix_of(name) in (*SUFFIXES, *EXTRAS) or entry.name in METADATA:
                    listing.bad.append(f"{name} ({LINK_OUT})")
            elif directory:
                if (status.st_dev, status.st_ino) not in above:
                    yield from self._files(f"{name}/", above, listing)
            elif stat.S_ISREG(status.st_mode):
                yield name, status
            else:
                listing.notes.add("device or pipe", name)

    def _within(self, name: str) -> bool:
        root = os.path.realpath(self.root)
        return os.path.commonpath([root, os.path.realpath(f"{self.root}/{name}")]) == root


@dataclass(frozen=True)
class ArchivesTree:
    """A folder of archives, whose files are named as if each were a folder: cats.zip holds cats/1.png."""

    kind: ClassVar = "archives"
    root: str
    follow_links: bool
    archives: Sequence[str]

    def open(self, name: str) -> IO[bytes]:
        """The file or member. Raises what their trees raise."""
        for end in (place + 1 for place, character in enumerate(name) if character == "/"):
            if archive := self._opened.get(name[:end]):
                return archive.open(name[end:])
        return FolderTree(self.root, self.follow_links).open(name)

    def scan(self) -> Listing:
        """The files beside the archives, and their members. Raises UserError where one is damaged."""
        listing = FolderTree(self.root, self.follow_links).scan()
        for name in self.archives:
            del listing.others[name]
        for prefix, archive in self._opened.items():
            listing.add(archive.scan(), prefix)
        return listing.settled()

    @property
    def shards(self) -> dict[str, str]:
        """What archives are parts of, by folder: train-000.tar of train, 00001.tar of nothing in words."""
        tops = [prefix[:-1] for prefix in self._opened if "/" not in prefix[:-1]]
        return {top: re.sub(r"([ _.-]+\d+|\d{2,})$", "", top) for top in tops}

    @cached_property
    def _opened(self) -> dict[str, Archive]:
        """Each archive by the beginning of its names."""
        opened = {}
        for name in self.archives:
            archive = open_archive(f"{self.root}/{name}")
            if archive:
                opened[name.removesuffix(suffix_of(name)) + "/"] = archive
        return opened


def open_tree(path: str, follow_links: bool) -> FolderTree | Archive:
    """The folder or archive at a path. Raises UserError where it is neither."""
    if Path(path).is_dir():
        root = os.path.realpath(path)
        if root == os.path.dirname(root):
            raise UserError(f"data.path: {path} is the whole disk; give the folder that holds the images")
        return FolderTree(root, follow_links)
    if not Path(path).exists():
        raise UserError(f"data.path: {path} does not exist; give the folder or archive that holds the images")
    if archive := open_archive(path):
        return archive
    raise UserError(f"data.path: {path} is not a folder; give a folder, a .zip, an .npz, or set data.source")


@dataclass(frozen=True)
class HubTree:
    """Images in the Arrow files of the library datasets, named split/row/column."""

    kind: ClassVar = "hub"
    files: Mapping[str, Sequence[str]]

    def open(self, name: str) -> IO[bytes]:
        """The cell. Raises BadItem or OSError."""
        split, row, column = name.split("/", 2)
        cell = self._columns[split, column][int(row)][column]
        if cell is None:
            raise BadItem("no image there")
        if cell["bytes"] is not None:
            return io.BytesIO(cell["bytes"])
        return files.opened(cell["path"])

    @cached_property
    def _columns(self) -> dict[tuple[str, str], Dataset]:
        """Each column of images by split, its cells not decoded."""
        from datasets import Dataset, Image, concatenate_datasets

        columns = {}
        for split, paths in self.files.items():
            whole = concatenate_datasets([Dataset.from_file(file) for file in paths])
            for column, feature in whole.features.items():
                if isinstance(feature, Image):
                    images = whole.select_columns([column])
                    columns[split, column] = images.cast_column(column, Image(decode=False))
        return columns


@dataclass(frozen=True)
class JoinedTree:
    """Several trees, each under a folder's name."""

    kind: ClassVar = "joined"
    trees: Mapping[str, Tree]

    def open(self, name: str) -> IO[bytes]:
        """The file. Raises what its tree raises."""
        folder, _, rest = name.partition("/")
        return self.trees[folder].open(rest)


Tree = FolderTree | ZipTree | TarTree | ArchivesTree | HubTree | JoinedTree | MaskTree
TREES = (FolderTree, ZipTree, TarTree, ArchivesTree, HubTree, JoinedTree, MaskTree)


def describe(tree: Tree) -> dict[str, Any]:
    """Plain values, from which `tree_of` makes the tree again in another process."""
    known = {field.name: getattr(tree, field.name) for field in fields(tree)}
    if isinstance(tree, JoinedTree):
        known["trees"] = {name: describe(part) for name, part in tree.trees.items()}
    elif isinstance(tree, MaskTree):
        known["tree"] = describe(tree.tree)
    return {"kind": tree.kind, **known}


def tree_of(description: Mapping[str, Any]) -> Tree:
    """The tree of a description."""
    trees: dict[str, type[Any]] = {tree.kind: tree for tree in TREES}
    values = {name: value for name, value in description.items() if name != "kind"}
    if description["kind"] == "joined":
        values["trees"] = {name: tree_of(part) for name, part in values["trees"].items()}
    elif description["kind"] == "masks":
        values["tree"] = tree_of(values["tree"])
    made: Tree = trees[description["kind"]](**values)
    return made
