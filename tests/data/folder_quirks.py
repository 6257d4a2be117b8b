"""What happens to folders: how files are named and written, and what is done to the folder afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from data.folder_maker import Maker, packed_tar, packed_zip

QUIRKS: dict[str, tuple[dict[str, str], Callable[[Path], Path]]] = {}


def quirk(**maker: str) -> Callable[[Callable[[Path], Path]], Callable[[Path], Path]]:
    def register(after: Callable[[Path], Path]) -> Callable[[Path], Path]:
        QUIRKS[after.__name__] = (maker, after)
        return after

    return register


@quirk()
def plain(folder: Path) -> Path:
    return folder


@quirk(suffix=".PNG")
def shouting_suffixes(folder: Path) -> Path:
    return folder


@quirk(stem="Фото é {}")
def names_not_ascii(folder: Path) -> Path:
    return folder


@quirk(stem="photo.v2.{}")
def dots_in_names(folder: Path) -> Path:
    return folder


@quirk(ends="\r\n", encoding="utf-8-sig")
def texts_of_windows(folder: Path) -> Path:
    return folder


@quirk()
def in_one_more_folder(folder: Path) -> Path:
    outer = folder.parent / "outer"
    shutil.move(folder, outer / "photos")
    return outer


@quirk()
def in_two_more_folders(folder: Path) -> Path:
    outer = folder.parent / "outer"
    shutil.move(folder, outer / "my" / "photos")
    return outer


@quirk()
def with_leftovers_of_systems(folder: Path) -> Path:
    for place in (folder, *filter(Path.is_dir, sorted(folder.iterdir()))):
        for below in ("@eaDir", "__MACOSX", "lost+found", ".thumbnails"):
            Maker(place).picture(9, f"{below}/")
        for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
            (place / name).write_bytes(b"\0")
    return folder


@quirk()
def with_a_run_of_safelight(folder: Path) -> Path:
    Maker(folder).picture(9, "runs/a/sheets/")
    for name in ("run.json", "journal.jsonl"):
        (folder / "runs" / "a" / name).write_text("{}")
    Maker(folder, stem=f"{folder.name}-data").picture(9)
    return folder


@quirk()
def with_files_that_are_not_read(folder: Path) -> Path:
    (folder / "README.md").write_text("photos")
    (folder / "clip.mp4").write_bytes(b"\0")
    (folder / "model.pdf").write_bytes(b"\0")
    return folder


@quirk()
def zipped(folder: Path) -> Path:
    return packed_zip(folder, folder.parent / "p.zip")


@quirk()
def zipped_in_folders(folder: Path) -> Path:
    return packed_zip(folder, folder.parent / "p.zip", "my/photos/")


@quirk()
def zipped_with_backslashes(folder: Path) -> Path:
    return packed_zip(folder, folder.parent / "p.zip", "my\\", "\\")


@quirk()
def zipped_within_a_folder(folder: Path) -> Path:
    outer = folder.parent / "outer"
    outer.mkdir()
    packed_zip(folder, outer / "photos.zip")
    return outer


@quirk()
def as_tar(folder: Path) -> Path:
    return packed_tar(folder, folder.parent / "p.tar", prefix="photos/")


@quirk()
def as_tar_gz(folder: Path) -> Path:
    return packed_tar(folder, folder.parent / "p.tar.gz", "w:gz")
