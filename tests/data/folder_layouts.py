"""Folders as other tools leave them: each layout writes six pictures with what it can say of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest

from data.folder_maker import COUNT, WORDS, Maker, Said, packed_tar

CLASSES = ("cat", "dog", "cat", "dog", "emu", "emu")
LAYOUTS: dict[str, Callable[[Maker], Said]] = {}


def layout(make: Callable[[Maker], Said]) -> Callable[[Maker], Said]:
    LAYOUTS[make.__name__] = make
    return make


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
