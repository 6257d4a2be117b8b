"""The files of a tree by use: pictures, tables, annotations, captions, archives, and what is passed over."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from importlib.util import find_spec

from safelight.data.source import Notes

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2"),
)
EXTRAS = {  # endings that a package reads, and that package
    **dict.fromkeys((".heic", ".heif", ".hif"), ("pillow_heif", "pillow-heif", "photos")),
    ".jxl": ("pillow_jxl", "pillow-jxl-plugin", "photos"),
    **dict.fromkeys((".svg", ".svgz"), ("resvg_py", "resvg-py", "svg")),
}
INSTEAD = {  # what to do about files that hold pictures or tables in another way
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "save it as .csv"),
    **dict.fromkeys((".rar", ".7z", ".tar.zst"), "unpack it"),
    **dict.fromkeys(
        (".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2"), "export it as TIFF or JPEG"
    ),
    **dict.fromkeys((".psd", ".xcf", ".kra", ".ai", ".eps", ".pdf"), "export it as PNG"),
    **dict.fromkeys((".mp4", ".mov", ".avi", ".mkv", ".webm"), "a film; save its frames as pictures"),
    ".safetensors": "weights or arrays; save pictures, or arrays as .npz",
}
METADATA = ("metadata.csv", "metadata.jsonl")
TABLES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
NAMED_TABLES = ("metadata", "captions", "labels", "dataset")  # stems that are read without being stated
SIDECARS = (".txt", ".caption", ".json", ".cls")  # beside a picture, with its name
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
COCO_NAMES = ("_annotations.coco.json", "annotations.json", "instances.json")  # beside the pictures
SYSTEM = {  # left by disks, archivers, network storage and programs
    *(
        "@eadir",
        "@recycle",
        "@__thumb",
        "@tmp",
        "#recycle",
        "#snapshot",
        "__macosx",
        "lost+found",
        "found.000",
    ),
    *("$recycle.bin", "system volume information", "recycler", "node_modules", "__pycache__"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "picasa.ini"),
}
SHEET = "-data.png"  # written by `safelight data inspect`, by the name of the folder or archive
RUN = {"run.json", "journal.jsonl"}  # a folder with both is a run of safelight
HIDDEN = "hidden or system file"


def is_sheet(name: str, folders: Collection[str]) -> bool:
    """Whether a file is the sheet that `data inspect` writes of one of those folders or archives."""
    return name.endswith(SHEET) and name.removesuffix(SHEET) in folders


def without_suffix(name: str) -> str:
    """A file's name without the ending of an archive."""
    suffix = suffix_of(name)
    return name[: -len(suffix)] if suffix in ARCHIVES else name


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or made by a system: never data, wherever it is."""
    return name.startswith(".") or name.lower() in SYSTEM


@cache
def missing_package(suffix: str) -> str:
    """What to install for pictures with that ending; "" where nothing is missing, or nothing would help."""
    module, package, extra = EXTRAS.get(suffix, ("", "", ""))
    return f"needs: pip install {package} (safelight[{extra}])" if module and not find_spec(module) else ""


def suffix_of(name: str) -> str:
    """The ending of a file's name in lower case: ".png", ".tar.gz"."""
    stem, dot, ending = name.lower().rpartition("/")[2].rpartition(".")
    suffix = dot + ending if stem else ""
    return ".tar" + suffix if stem.endswith(".tar") else suffix


@dataclass
class Listing:
    """The files of a tree by use; every list is sorted."""

    images: list[str] = field(default_factory=list)
    metadata: list[str] = field(default_factory=list)  # metadata.csv and .jsonl
    annotations: list[str] = field(default_factory=list)  # annotations/*.json
    others: dict[str, str] = field(default_factory=dict)  # tables, sidecars, archives: their stamp by name
    bad: list[str] = field(default_factory=list)  # name (reason)
    notes: Notes = field(default_factory=Notes)  # what is passed over
    size: int = 0  # bytes of the images
    digest: str = ""  # of images, metadata, annotations: names, sizes, times of change, and what is bad

    def take(self, name: str, size: int, stamp: str) -> None:
        """Add a file by its name. stamp: of its state, in a line."""
        folder, _, last = name.rpartition("/")
        suffix = suffix_of(last)
        missing = missing_package(suffix)
        if suffix in SUFFIXES or (suffix in EXTRAS and not missing):
            self.images.append(name)
            self.size += size
        elif last.lower() in METADATA:
            self.metadata.append(name)
        elif suffix == ".json" and folder.rpartition("/")[2].lower() == "annotations":
            self.annotations.append(name)
        elif suffix in TABLES or suffix in SIDECARS or suffix in ARCHIVES:
            self.others[name] = stamp
            return
        else:
            self.notes.add(
                f"{suffix} file" if suffix else "file without a suffix",
                name,
                missing or INSTEAD.get(suffix, ""),
            )
            return
        if suffix in EXTRAS:
            self._extra[name] = stamp
        self._lines.append(stamp)

    def __post_init__(self) -> None:
        self._lines: list[str] = []
        self._extra: dict[str, str] = {}  # the stamps of pictures that a package reads

    def add(self, listing: Listing, prefix: str) -> None:
        """Take what another listing has, its names with a prefix."""
        for mine, its in ((self.images, listing.images), (self.metadata, listing.metadata),
                          (self.annotations, listing.annotations), (self.bad, listing.bad)):  # fmt: skip
            mine += [prefix + name for name in its]
        self.others |= {prefix + name: prefix + line for name, line in listing.others.items()}
        self._lines += [prefix + line for line in listing._lines]
        self._extra |= {prefix + name: prefix + line for name, line in listing._extra.items()}
        self.size += listing.size
        self.notes.extend(listing.notes)

    def settled(self) -> Listing:
        """The listing sorted, with its digest; a drawing beside a picture of its name is that picture."""
        drawings = [name for name in self._extra if suffix_of(name) in (".svg", ".svgz")]
        stems = {name.rpartition(".")[0] for name in self.images if drawings and name not in self._extra}
        twice = sorted(name for name in drawings if name.rpartition(".")[0] in stems)
        self.notes.add_all("drawing", twice, "a picture beside it has its name")
        self._drop(twice)
        for names in (self.images, self.metadata, self.annotations, self.bad):
            names.sort()
        self.digest = _digest([*sorted(self._lines), *self.bad])
        self.others = dict(sorted(self.others.items()))
        return self

    def without_extras(self) -> Listing:
        """As before pictures were read by packages."""
        self._drop([*self._extra])
        return self.settled()

    def _drop(self, names: Collection[str]) -> None:
        gone = {*names}
        lines = {self._extra.pop(name) for name in gone}
        if gone:
            self.images = [name for name in self.images if name not in gone]
            self._lines = [line for line in self._lines if line not in lines]

    def digest_of(self, names: Iterable[str]) -> str:
        """A digest of the state of some of the other files."""
        return _digest(sorted(self.others[name] for name in names))


def _digest(lines: Sequence[str]) -> str:
    return blake2b("".join(lines).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
