"""Files below a folder or in a zip archive, alike: listed fast, opened by name.

A symbolic link that leads out of the folder is not followed unless the recipe says so: in data from
elsewhere it may point at any file of this machine. It is named as a bad file instead. Links within the
folder are followed, but not in circles. Archives are read in place; nothing is extracted.
"""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar

from safelight import files
from safelight.config import UserError
from safelight.data.source import BadItem

if TYPE_CHECKING:
    from datasets import Dataset


SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2"),
)
METADATA = ("metadata.csv", "metadata.jsonl")
SYSTEM = ("@eadir", "__macosx", "lost+found", "thumbs.db")  # left behind by disks, archivers and Windows
RUN = {"run.json", "journal.jsonl"}  # a folder with both is a run of safelight
SHEET = "{}-data.png"  # written by `safelight data inspect`, by the name of the folder
READABLE = 0o444  # whoever may read a file: one that could not be read is tried again when that changes
MAX_FILE = 1 << 30  # bytes a member of an archive may unpack to
LINK_OUT = "a link out of the folder; data.follow_links=true follows it"


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or made by a system: never data, wherever it is."""
    return name.startswith(".") or name.lower() in SYSTEM


@dataclass
class Listing:
    """The files of a tree by use."""

    images: list[str] = field(default_factory=list)  # sorted
    metadata: list[str] = field(default_factory=list)  # metadata.csv and .jsonl, sorted
    annotations: list[str] = field(default_factory=list)  # annotations/*.json, sorted
    bad: list[str] = field(default_factory=list)  # name (reason)
    passed_over: Counter[str] = field(default_factory=Counter)  # other files, by kind
    size: int = 0  # bytes of the images
    digest: str = ""  # of names, sizes, times of change, and what is bad

    def take(self, name: str, size: int) -> bool:
        """Add a file by its name; True where it is of use."""
        folder, _, last = name.rpartition("/")
        suffix = os.path.splitext(last)[1].lower()
        if suffix in SUFFIXES:
            self.images.append(name)
            self.size += size
        elif last.lower() in METADATA:
            self.metadata.append(name)
        elif suffix == ".json" and folder.rpartition("/")[2].lower() == "annotations":
            self.annotations.append(name)
        else:
            self.passed_over[f"{suffix} file" if suffix else "file without a suffix"] += 1
            return False
        return True

    def settled(self, lines: list[str]) -> Listing:
        """The listing sorted, with its digest of those lines."""
        for names in (self.images, self.metadata, self.annotations, self.bad):
            names.sort()
        content = "".join([*sorted(lines), *self.bad]).encode("utf-8", "surrogatepass")
        self.digest = blake2b(content, digest_size=16).hexdigest()
        return self


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
        listing, lines = Listing(), []
        for name, status in self._files("", frozenset(), listing):
            if listing.take(name, status.st_size):
                readable = status.st_mode & READABLE
                lines.append(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0{readable}\n")
        return listing.settled(lines)

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
            listing.passed_over["run of safelight"] += 1
            return
        above |= {(status.st_dev, status.st_ino)}
        sheet = SHEET.format(os.path.basename(self.root))
        for entry in entries:
            name = f"{below}{entry.name}"
            if is_hidden(entry.name) or entry.name == sheet:
                listing.passed_over["sheet of safelight" if entry.name == sheet else "hidden file"] += 1
                continue
            try:
                link = entry.is_symlink()
                status = entry.stat()
            except OSError as error:
                listing.bad.append(f"{name} ({'a link to nothing' if link else error.strerror})")
                continue
            directory = stat.S_ISDIR(status.st_mode)
            if link and not self.follow_links and not self._within(name):
                if directory or os.path.splitext(name)[1].lower() in SUFFIXES or entry.name in METADATA:
                    listing.bad.append(f"{name} ({LINK_OUT})")
            elif directory:
                if (status.st_dev, status.st_ino) not in above:
                    yield from self._files(f"{name}/", above, listing)
            elif stat.S_ISREG(status.st_mode):
                yield name, status
            else:
                listing.passed_over["device or pipe"] += 1

    def _within(self, name: str) -> bool:
        root = os.path.realpath(self.root)
        return os.path.commonpath([root, os.path.realpath(f"{self.root}/{name}")]) == root


@dataclass(frozen=True)
class ZipTree:
    """A zip archive; one folder that holds everything in it is left out of the names."""

    kind: ClassVar = "zip"
    path: str

    def open(self, name: str) -> IO[bytes]:
        """The member. Raises BadItem, KeyError, or whatever a damaged archive leads to."""
        info = self._members[name]
        if info.file_size > MAX_FILE:
            raise BadItem(f"unpacks to {info.file_size / 1e9:.1f} GB")
        return io.BytesIO(self._archive.read(info))

    def scan(self) -> Listing:
        """Every member. Raises UserError where the archive is damaged."""
        listing, lines = Listing(), []
        for name, info in self._members.items():
            parts = name.split("/")
            if any(is_hidden(part) and part != ".." for part in parts):
                listing.passed_over["hidden file"] += 1
            elif ".." in parts:
                listing.bad.append(f"{name} (lies outside the archive)")
            elif listing.take(name, info.file_size):
                lines.append(f"{name}\0{info.file_size}\0{info.CRC}\n")
        return listing.settled(lines)

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror or error})") from error
        except Exception as error:  # BadZipFile, and whatever a damaged directory leads to
            raise UserError(f"{self.path}: is not a whole zip archive ({error}); make it again") from error

    @cached_property
    def _members(self) -> dict[str, zipfile.ZipInfo]:
        files = [info for info in self._archive.infolist() if not info.is_dir()]
        names = ["/".join(part for part in info.filename.split("/") if part not in ("", "."))
                 for info in files]  # fmt: skip
        tops = {top for name in names if not is_hidden(top := name.partition("/")[0])}
        only = f"{tops.pop()}/" if len(tops) == 1 else ""
        return {name.removeprefix(only): info for name, info in zip(names, files, strict=True)}


def open_tree(path: str, follow_links: bool) -> FolderTree | ZipTree:
    """The folder or archive at a path. Raises UserError where it is neither."""
    if Path(path).is_dir():
        root = os.path.realpath(path)
        if root == os.path.dirname(root):
            raise UserError(f"data.path: {path} is the whole disk; give the folder that holds the images")
        return FolderTree(root, follow_links)
    if not Path(path).exists():
        raise UserError(f"data.path: {path} does not exist; give the folder or archive that holds the images")
    if zipfile.is_zipfile(path) or path.lower().endswith(".zip"):
        return ZipTree(path)
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


Tree = FolderTree | ZipTree | HubTree


def describe(tree: Tree) -> dict[str, Any]:
    """Plain values, from which `tree_of` makes the tree again in another process."""
    return {"kind": tree.kind, **{field.name: getattr(tree, field.name) for field in fields(tree)}}


def tree_of(description: Mapping[str, Any]) -> Tree:
    """The tree of a description."""
    trees: dict[str, type[Tree]] = {tree.kind: tree for tree in (FolderTree, ZipTree, HubTree)}
    return trees[description["kind"]](**{name: description[name] for name in description if name != "kind"})
