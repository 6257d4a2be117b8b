"""Folders as other tools leave them, times what happens to folders: every layout has to survive every quirk.

A layout writes six pictures with what it can say of them; a quirk is how files are named and written, and
what is done to the folder afterwards. Pictures are known by their grey level, whatever they are called.
"""

from __future__ import annotations

import itertools
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.files import opened
from safelight.data import find_source
from safelight.data.config import Data
from safelight.data.source import HELD_OUT, Items

COUNT = 6
SIDE = 8
WORDS = ("a red, round thing", "un café", "a house", "ein Haus", "a tree: tall", "猫")


@dataclass
class Said:
    """What a layout says of its pictures, by picture."""

    labels: tuple[str | None, ...] = ()
    order: tuple[str, ...] = ()  # of the classes, where it is not that of their names
    captions: tuple[tuple[str, ...], ...] = ()
    masked: bool = False
    over: int = 0  # the class that is in a mask where class 1 is not
    attributes: dict[str, tuple[float, ...]] = field(default_factory=dict)
    held_out: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    keys: dict[str, object] = field(default_factory=dict)


@dataclass
class Maker:
    """Writes pictures and texts into a folder, in the manner of a quirk."""

    folder: Path
    suffix: str = ".png"
    stem: str = "p{}"
    ends: str = "\n"
    encoding: str = "utf-8"

    def name(self, number: int, tail: str = "") -> str:
        return f"{self.stem.format(number)}{tail}{self.suffix}"

    def place(self, path: str) -> Path:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        return self.folder / path

    def picture(self, number: int, below: str = "") -> str:
        path = f"{below}{self.name(number)}"
        Image.fromarray(np.full((SIDE, SIDE), level(number), np.uint8)).save(self.place(path), "PNG")
        return path

    def pictures(self, below: str = "") -> list[str]:
        return [self.picture(number, below) for number in range(COUNT)]

    def mask(self, number: int, path: str) -> str:
        Image.fromarray(mask(number)).save(self.place(path), "PNG")
        return path

    def text(self, path: str, content: str) -> None:
        self.place(path).write_bytes(content.replace("\n", self.ends).encode(self.encoding))

    def json(self, path: str, content: object) -> None:
        self.text(path, json.dumps(content, indent=1))


def level(number: int) -> int:
    return min(20 + 30 * number, 255)


def mask(number: int) -> np.ndarray:
    """Class 1 in as many rows as the number and one more."""
    return (np.arange(SIDE)[:, None] <= number).repeat(SIDE, 1).astype(np.uint8)


CLASSES = ("cat", "dog", "cat", "dog", "emu", "emu")
LAYOUTS: dict[str, Callable[[Maker], Said]] = {}
QUIRKS: dict[str, tuple[dict[str, str], Callable[[Path], Path]]] = {}


def layout(make: Callable[[Maker], Said]) -> Callable[[Maker], Said]:
    LAYOUTS[make.__name__] = make
    return make


def quirk(**maker: str) -> Callable[[Callable[[Path], Path]], Callable[[Path], Path]]:
    def register(after: Callable[[Path], Path]) -> Callable[[Path], Path]:
        QUIRKS[after.__name__] = (maker, after)
        return after

    return register


@layout
def flat(maker: Maker) -> Said:
    maker.pictures()
    return Said()


@layout
def class_folders(maker: Maker) -> Said:
    for number, name in enumerate(CLASSES):
        maker.picture(number, f"{name}/")
    return Said(CLASSES)


@layout
def numbered_folders(maker: Maker) -> Said:
    names = ("1", "2", "10", "11", "12", "2")
    for number, name in enumerate(names):
        maker.picture(number, f"{name}/")
    return Said(names, order=("1", "2", "10", "11", "12"))


@layout
def split_folders(maker: Maker) -> Said:
    for number, name in enumerate(CLASSES):
        maker.picture(number, f"{'val' if number in (1, 4) else 'train'}/{name}/")
    return Said(CLASSES, held_out=(1, 4))


@layout
def kohya(maker: Maker) -> Said:
    for number in range(COUNT):
        below = "10_sks dog/" if number < 2 else "3_plain cat/"
        maker.picture(number, below)
        maker.text(f"{below}{maker.stem.format(number)}.txt", f"tag {number}, thing")
    return Said(
        ("sks dog",) * 2 + ("plain cat",) * 4,
        captions=tuple((f"tag {number}, thing",) for number in range(COUNT)),
        weights=(10.0, 10.0, 3.0, 3.0, 3.0, 3.0),
    )


def sidecars(maker: Maker, suffix: str, below: str = "") -> None:
    for number, words in enumerate(WORDS):
        maker.picture(number, below)
        maker.text(f"{below}{maker.stem.format(number)}{suffix}", f"{words}\n")


@layout
def captions_txt(maker: Maker) -> Said:
    sidecars(maker, ".txt")
    return Said(captions=tuple((words,) for words in WORDS))


@layout
def captions_caption(maker: Maker) -> Said:
    sidecars(maker, ".caption")
    return Said(captions=tuple((words,) for words in WORDS))


@layout
def captions_in_class_folders(maker: Maker) -> Said:
    for number, name in enumerate(CLASSES):
        maker.picture(number, f"{name}/")
        maker.text(f"{name}/{maker.stem.format(number)}.txt", WORDS[number])
    return Said(CLASSES, captions=tuple((words,) for words in WORDS))


@layout
def captions_of_several_lines(maker: Maker) -> Said:
    for number, words in enumerate(WORDS):
        maker.picture(number)
        maker.text(f"{maker.stem.format(number)}.txt", f"{words}\n\n  second {number} \n")
    return Said(captions=tuple((words, f"second {number}") for number, words in enumerate(WORDS)))


@layout
def captions_json(maker: Maker) -> Said:
    for number, words in enumerate(WORDS):
        maker.picture(number)
        maker.json(f"{maker.stem.format(number)}.json", {"caption": words, "url": "https://x", "width": 9})
    return Said(captions=tuple((words,) for words in WORDS))


def rows(maker: Maker, below: str = "") -> list[dict[str, object]]:
    """Rows of a table beside pictures and masks, of every kind of column."""
    return [
        {"file_name": maker.picture(number, below), "mask": maker.mask(number, f"m/{number}.png"),
         "label": CLASSES[number], "text": WORDS[number], "age": 20.5 + number}
        for number in range(COUNT)
    ]  # fmt: skip


ROWS_SAY = Said(
    CLASSES, captions=tuple((words,) for words in WORDS), masked=True,
    attributes={"age": tuple(20.5 + number for number in range(COUNT))},
)  # fmt: skip


def delimited(maker: Maker, path: str, table: list[dict[str, object]], comma: str) -> None:
    lines = [comma.join(table[0]), *(comma.join(f'"{cell}"' for cell in row.values()) for row in table)]
    maker.text(path, "\n".join(lines) + "\n")


@layout
def metadata_csv(maker: Maker) -> Said:
    delimited(maker, "metadata.csv", rows(maker), ",")
    return ROWS_SAY


@layout
def metadata_csv_of_a_subfolder(maker: Maker) -> Said:
    table = rows(maker, "deep/er/")
    delimited(maker, "metadata.csv", table, ",")
    return ROWS_SAY


@layout
def metadata_tsv(maker: Maker) -> Said:
    delimited(maker, "metadata.tsv", rows(maker), "\t")
    return ROWS_SAY


@layout
def metadata_jsonl(maker: Maker) -> Said:
    maker.text("metadata.jsonl", "\n".join(map(json.dumps, rows(maker))))
    return ROWS_SAY


@layout
def metadata_json(maker: Maker) -> Said:
    maker.json("metadata.json", rows(maker))
    return ROWS_SAY


@layout
def metadata_parquet(maker: Maker) -> Said:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.Table.from_pylist(rows(maker)), maker.place("metadata.parquet"))
    return ROWS_SAY


@layout
def numbers_of_pandas(maker: Maker) -> Said:
    table = [{"file_name": maker.picture(number), "label": f"{value}.0"}
             for number, value in enumerate((10, 2, 1, 2, 10, 1))]  # fmt: skip
    delimited(maker, "metadata.csv", table, ",")
    return Said(("10", "2", "1", "2", "10", "1"), order=("1", "2", "10"))


@layout
def words_for_numbers(maker: Maker) -> Said:
    words = (("True", "no", "12%", "0,5"), ("False", "yes", "50%", "1,25"), ("True", "no", "100%", "2,0"))
    table = [{"file_name": maker.picture(number), **dict(zip("abcd", words[number % 3], strict=True))}
             for number in range(COUNT)]  # fmt: skip
    delimited(maker, "metadata.csv", table, ",")
    values = {"a": (1, 0, 1), "b": (0, 1, 0), "c": (0.12, 0.5, 1), "d": (0.5, 1.25, 2)}
    return Said(attributes={name: three * 2 for name, three in values.items()})


@layout
def stylegan(maker: Maker) -> Said:
    labels = (2, 0, 10, 2, 0, 10)
    names = [maker.picture(number, f"0000{number % 2}/") for number in range(COUNT)]
    maker.json("dataset.json", {"labels": [list(pair) for pair in zip(names, labels, strict=True)]})
    return Said(tuple(map(str, labels)), order=("0", "2", "10"))


def paired(maker: Maker, images: str, masks: str) -> Said:
    for number in range(COUNT):
        maker.picture(number, f"{images}/")
        maker.mask(number, f"{masks}/{maker.stem.format(number)}.png")
    return Said(masked=True)


PAIRS = (("images", "masks"), ("images", "labels"), ("img", "segmentation"), ("images", "annotations"))
for images, masks in PAIRS:

    def pairs(maker: Maker, images: str = images, masks: str = masks) -> Said:
        return paired(maker, images, masks)

    LAYOUTS[f"{images} and {masks}"] = pairs


@layout
def pairs_in_splits(maker: Maker) -> Said:
    for number in range(COUNT):
        side = "test" if number in (0, 5) else "train"
        maker.picture(number, f"{side}/images/")
        maker.mask(number, f"{side}/masks/{maker.stem.format(number)}.png")
    return Said(masked=True, held_out=(0, 5))


@layout
def pairs_by_name(maker: Maker) -> Said:
    for number in range(COUNT):
        maker.picture(number)
        maker.mask(number, f"{maker.stem.format(number)}_mask.png")
    return Said(masked=True)


def outlined(number: int) -> list[list[float]]:
    rows = min(number + 1, SIDE)
    return [[0, 0, SIDE, 0, SIDE, rows, 0, rows]]


def run_lengths(number: int) -> dict[str, object]:
    flat = mask(number).T.ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=0)).tolist()
    return {"size": [SIDE, SIDE], "counts": np.diff([0, *edges, flat.size]).tolist()}


def coco(maker: Maker, path: str, outline: Callable[[int], object], images: str = "images/") -> Said:
    for number in range(COUNT):
        maker.picture(number, images)
    maker.json(
        path,
        {
            "images": [{"id": number, "file_name": maker.name(number), "height": SIDE, "width": SIDE}
                       for number in range(COUNT)],
            "categories": [{"id": 7, "name": "cat"}],
            "annotations": [{"id": 1 + number, "image_id": number, "category_id": 7, "area": 1.0,
                             "iscrowd": 0, "segmentation": outline(number)} for number in range(COUNT)],
        },
    )  # fmt: skip
    return Said(masked=True)


@layout
def coco_polygons(maker: Maker) -> Said:
    return coco(maker, "annotations/instances.json", outlined)


@layout
def coco_run_lengths(maker: Maker) -> Said:
    return coco(maker, "annotations/instances.json", run_lengths)


@layout
def coco_of_roboflow(maker: Maker) -> Said:
    return coco(maker, "_annotations.coco.json", outlined, "")


@layout
def coco_of_several_categories(maker: Maker) -> Said:
    """Class 1 lies over class 2, which is larger; a category that nothing shows has a number too."""
    said = coco(maker, "annotations/instances.json", outlined)
    path = maker.folder / "annotations" / "instances.json"
    content = json.loads(path.read_bytes().decode(maker.encoding))
    content["categories"] += [{"id": 9, "name": "sky"}, {"id": 90, "name": "none of these"}]
    whole = [[0, 0, SIDE, 0, SIDE, SIDE, 0, SIDE]]
    content["annotations"] += [
        {"id": 100 + number, "image_id": number, "category_id": 9, "segmentation": whole}
        for number in range(COUNT)
    ]
    maker.json("annotations/instances.json", content)
    return replace(said, over=2)


def packed_tar(folder: Path, out: Path, mode: str = "w", prefix: str = "") -> Path:
    with tarfile.open(out, mode) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.add(path, prefix + path.relative_to(folder).as_posix())
    return out


@layout
def web_dataset(maker: Maker) -> Said:
    inner = Maker(maker.folder.parent / "shard", maker.suffix, maker.stem, maker.ends, maker.encoding)
    for shard in range(2):
        for number in range(shard, COUNT, 2):
            inner.picture(number)
            inner.text(f"{maker.stem.format(number)}.txt", WORDS[number])
            inner.text(f"{maker.stem.format(number)}.cls", str(number % 3))
        packed_tar(inner.folder, maker.place(f"{shard:05d}.tar"))
        shutil.rmtree(inner.folder)
    return Said(("0", "1", "2") * 2, captions=tuple((words,) for words in WORDS))


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


def packed_zip(folder: Path, out: Path, prefix: str = "", slash: str = "/") -> Path:
    with zipfile.ZipFile(out, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = zipfile.ZipInfo("x")
                name.filename = prefix + path.relative_to(folder).as_posix().replace("/", slash)
                archive.writestr(name, path.read_bytes())
    return out


def items_of(path: Path | list[Path], **keys: object) -> Items:
    where = [str(each) for each in path] if isinstance(path, list) else str(path)
    return find_source(Data.model_validate({"path": where, **keys})).items()


def check(items: Items, said: Said) -> None:
    """Everything that the layout says, and nothing else, of every picture."""
    assert not list(items.bad)
    pixels = [items.reader.read(item) for item in range(len(items.names))]
    numbers = [(int(each.image[0, 0, 0]) - 20) // 30 for each in pixels]
    assert sorted(numbers) == list(range(COUNT))
    label = items.columns.get("label")
    if said.labels:
        assert label is not None
        assert [label.names[place] for place in label.values] == [said.labels[number] for number in numbers]
        assert label.names == (said.order or tuple(sorted({name for name in said.labels if name})))
    elif not said.masked:  # objects of one category may be a label too
        assert label is None
    wanted = [said.captions[number] if said.captions else () for number in numbers]
    assert [tuple(each) for each in items.texts] == (wanted if said.captions else [])
    assert (items.masks is not None) == said.masked
    if said.masked:
        for number, each in zip(numbers, pixels, strict=True):
            np.testing.assert_array_equal(each.mask, np.where(mask(number), 1, said.over))
    attributes = items.columns.get("attributes")
    assert (attributes.names if attributes else ()) == tuple(said.attributes)
    for place, values in enumerate(said.attributes.values()):
        assert attributes is not None
        got = attributes.values[:, place]
        np.testing.assert_allclose(got, [values[number] for number in numbers], rtol=1e-6)
    if said.held_out:
        assert items.official is not None
        held = [number for number, side in zip(numbers, items.official, strict=True) if side == HELD_OUT]
        assert sorted(held) == sorted(said.held_out)
    else:
        assert items.official is None
    weights = getattr(items, "weights", None)
    if said.weights:
        assert weights is not None
        assert [float(weight) for weight in weights] == [said.weights[number] for number in numbers]
    else:
        assert weights is None


TABLE = [
    (layout, quirk)
    for layout, quirk in itertools.product(LAYOUTS, QUIRKS)
    if not (layout == "web_dataset" and quirk.startswith(("zipped", "as_tar")))
]  # an archive in another


@pytest.mark.parametrize(("layout", "quirk"), TABLE)
def test_what_a_folder_says_is_read(tmp_path: Path, layout: str, quirk: str) -> None:
    manner, after = QUIRKS[quirk]
    maker = Maker(tmp_path / "photos", **manner)
    maker.folder.mkdir()
    said = LAYOUTS[layout](maker)
    check(items_of(after(maker.folder), **said.keys), said)


def test_the_table_is_large_enough() -> None:
    assert len(TABLE) >= 400


def picture(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), [level, 255 - level, 40], np.uint8)).save(path)


def old_classes(folder: Path) -> None:
    for number in range(6):
        picture(folder / ("cat", "dog", "10", "9")[number % 4] / f"{number}.png", 30 * number)


def old_split(folder: Path) -> None:
    for number in range(6):
        side, name = ("train", "test")[number % 3 == 0], ("a", "b")[number % 2]
        picture(folder / side / name / f"{number}.png", 30 * number)


def old_table(folder: Path) -> None:
    rows = "file_name,label,text,mask,age,flag,when\n"
    for number in range(6):
        picture(folder / f"{number}.png", 30 * number)
        Image.fromarray(np.full((8, 8), number % 3, np.uint8)).save(folder / f"m{number}.png")
        rows += (
            f"{number}.png,{'xy'[number % 2]},text {number},m{number}.png,{number / 2},{bool(number % 2)},"
        )
        rows += f"2020-01-0{number + 1}\n"
    (folder / "metadata.csv").write_text(rows)


def old_coco(folder: Path) -> None:
    for number in range(6):
        picture(folder / "images" / f"{number}.png", 30 * number)
    Maker(folder).json("annotations/all.json", {
        "images": [{"id": number, "file_name": f"{number}.png"} for number in range(6)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [{"id": number, "image_id": number, "category_id": 1 + number % 2,
                         "segmentation": [[0, 0, 8, 0, 8, 4, 0, 4]]} for number in range(6)],
    })  # fmt: skip


def old_one_folder(folder: Path) -> None:
    for number in range(6):
        picture(folder / "one" / "ab"[number % 2] / f"{number}.png", 30 * number)
        (folder / "one" / "ab"[number % 2] / f"{number}.txt").write_text("words")


def old_pairs(folder: Path) -> None:
    for number in range(6):
        picture(folder / "images" / f"{number}.png", 30 * number)
        Maker(folder, stem="{}").mask(number, f"masks/{number}.png")


@pytest.mark.parametrize(
    ("make", "fingerprint", "changed"),
    [  # measured with safelight 0.1's rules
        (old_classes, "3affb1531995123d920d31d1959db497", False),
        (old_split, "9465a675ad215e97f6cff3260c7ecd1f", False),
        (old_table, "362223a1c064ab2c8a975c6456541567", True),  # the column flag is an attribute now
        (old_coco, "4b81ff14a5956dfbdbe2de688a014a55", True),  # outlines are masks
        (old_one_folder, "bf7fbeaee9e6f5805e0af1488b4b9efe", True),  # classes and captions
        (old_pairs, "08c8ac8eacb9e8373f52e1a14bc754de", True),  # no classes, but masks
    ],
)
def test_what_a_run_was_trained_on_before_is_read_as_it_was(
    tmp_path: Path, make: Callable[[Path], None], fingerprint: str, changed: bool
) -> None:
    make(tmp_path / "photos")
    assert opened(tmp_path / "photos", rules=1).fingerprint == fingerprint
    assert (opened(tmp_path / "photos").fingerprint != fingerprint) == changed
