"""Data that cannot be right: files that lie about themselves, archives, tables, names, devices."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from damage.crafted import ESCAPES
from damage.world import COMMON, LEFT, Trial

Data = Callable[[Random, Path], str]  # fills a folder, returns what to train on, relative to it


def picture(random: Random, size: tuple[int, int] = (8, 8), mode: str = "RGB", form: str = "PNG") -> bytes:
    """An encoded image of random pixels."""
    image = Image.frombytes("RGB", size, random.randbytes(3 * size[0] * size[1])).convert(mode)
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def good(random: Random, folder: Path) -> None:
    """Some images that are as they should be, in two classes."""
    for name in ("a", "b"):
        (folder / name).mkdir(exist_ok=True)
        for number in range(4):
            (folder / name / f"{number}.png").write_bytes(picture(random))


def bad_image(random: Random, folder: Path) -> str:
    """One image among good ones that is none, or not what it says."""
    good(random, folder)
    png, jpeg = picture(random), picture(random, form="JPEG")
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)) \
        + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")  # fmt: skip
    text = (
        b"\x89PNG\r\n\x1a\n" + png[8:33] + chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 26))) + png[33:]
    )
    frames = io.BytesIO()
    pictures = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in range(20)]
    pictures[0].save(frames, "GIF", save_all=True, append_images=pictures[1:])
    flipped = bytearray(png)
    flipped[random.randrange(len(png))] ^= 1 << random.randrange(8)
    data = random.choice([
        b"", png[: random.randrange(len(png))], jpeg[: random.randrange(len(jpeg))], bomb, text,
        bytes(flipped),
        frames.getvalue(), b"P6\n99999999 99999999\n255\n", b"BM" + random.randbytes(60),
        random.randbytes(500),
        b"\xff\xd8\xff\xe1\xff\xff" + bytes(70), b"<svg/>", picture(random, mode="1"), picture(random,
        mode="L"),
        picture(random, mode="CMYK", form="TIFF"), picture(random, (1, 1)), picture(random, (1, 3000)),
        picture(random, mode="P"), b"RIFF\xff\xff\xff\xffWEBPVP8 " + bytes(20),
    ])  # fmt: skip
    suffix = random.choice((".png", ".jpg", ".gif", ".webp", ".bmp", ".tif", ".PNG"))
    (folder / f"a/9{suffix}").write_bytes(data)
    return "."


def odd_files(random: Random, folder: Path) -> str:
    """What is no regular file, between images."""
    good(random, folder)
    place = folder / "a/9.png"
    what = random.randrange(7)
    if what == 0:
        os.mkfifo(place)
    elif what == 1:
        place.symlink_to(
            random.choice(("/dev/zero", "/dev/full", "9.png", "/nowhere", "/etc/passwd", "../b/0.png"))
        )
    elif what == 2:
        (folder / "a/c").symlink_to("..")
    elif what == 3:
        place.mkdir()
    elif what == 4:
        os.truncate(folder / "a/0.png", 1 << 35)
    elif what == 5:
        (folder / f"a/{'n' * 240}.png").write_bytes(picture(random))
    else:
        (folder / os.fsdecode(b"a/\xff\xfe.png")).write_bytes(picture(random))
    return "."


def odd_names(random: Random, folder: Path) -> str:
    """Names of files and classes that a terminal would obey."""
    good(random, folder)
    name = random.choice([name for name in ESCAPES if "/" not in name])
    os.rename(folder / "a", folder / name) if random.random() < 0.5 else (
        folder / f"a/{name}.png"
    ).write_bytes(b"no")
    return "."


def table(random: Random, folder: Path) -> str:
    """metadata.csv or .jsonl that does not fit the images."""
    good(random, folder)
    odd = random.choice(
        [*ESCAPES, "", "nan", "1e999", "-1", "9" * 5000, "x" * 200_000, "\0", '"', "../../home/.ssh/id"]
    )
    rows = [f"a/{number}.png,{number % 2},{random.choice((odd, 'text'))}" for number in range(4)]
    rows.append(
        random.choice(["a/0.png,1,twice", f"{odd},0,x", "missing.png,0,x", "a/1.png", "a/1.png,1,x,y,z", odd])
    )
    head = random.choice(
        ["file_name,label,text", "file_name,label", "", "file_name,file_name,text", "label,text", odd]
    )
    if random.random() < 0.4:
        lines = [
            json.dumps({"file_name": row.split(",")[0], "label": odd, "text": [odd], "size": 1e999})
            for row in rows
        ]
        lines.append(
            random.choice(["[" * 100_000, "{", "null", "[]", '{"file_name": 3}', '{"file_name": null}', "\0"])
        )
        (folder / "metadata.jsonl").write_text("\n".join(lines))
    else:
        data = "\n".join([head, *rows]).encode(errors="surrogatepass")
        (folder / "metadata.csv").write_bytes(
            random.choice([data, b"\xff\xfe" + data, data + b"\x80\n", b"\0" + data])
        )
    return "."


def coco(random: Random, folder: Path) -> str:
    """annotations/*.json that is not as COCO has it."""
    good(random, folder)
    (folder / "annotations").mkdir()
    odd: Any = random.choice([None, -1, "x", [], {}, 1e999, 10**40, "../../home/.ssh/id", ESCAPES[0]])
    image = {
        "id": random.choice((1, odd)),
        "file_name": random.choice(("a/0.png", odd)),
        "width": 8,
        "height": odd,
    }
    note = {
        "image_id": random.choice((1, odd)),
        "category_id": odd,
        "caption": odd,
        "segmentation": odd,
        "bbox": odd,
    }
    text = random.choice([
        json.dumps({"images": [image], "annotations": [note], "categories": [{"id": 1, "name": odd}]}),
        json.dumps({"images": odd}), "[" * 200_000, '{"a":' * 200_000, "", "null", '{"images": [',
        "9" * 1_000_000,
    ])  # fmt: skip
    (folder / "annotations/instances.json").write_text(text)
    return "."


def arrays(random: Random, folder: Path) -> str:
    """.npy and .npz: pickles, no numbers, too many dimensions, shapes that lie."""
    what = random.randrange(9)
    shapes = [(0, 8, 8), (8,), (4, 8, 8, 5), (4, 8, 8, 3, 1), (1, 8, 8), (4, 0, 8, 3)]
    if what == 0:
        np.save(folder / "d.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    elif what == 1:
        np.save(folder / "d.npy", np.full((6, 8, 8), random.choice((np.nan, np.inf, 1e300, -1.0))))
    elif what == 2:
        np.save(folder / "d.npy", np.zeros(random.choice(shapes), np.uint8))
    elif what == 3:
        head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({1 << 40}, 8, 8), }}".ljust(117) + "\n"
        (folder / "d.npy").write_bytes(
            b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + bytes(64)
        )
    elif what == 4:
        (folder / "d.npy").write_bytes(b"\x93NUMPY\x01\x00\xff\xff{'descr': " + b"(" * 60_000)
    elif what == 5:
        np.save(folder / "d.npy", np.zeros((4, 8, 8), random.choice(("U3", "c16", "M8[s]", "?", "i8"))))
    else:
        columns = {"images": np.zeros((6, 8, 8), np.uint8), "labels": np.array(random.choice(
            ([0] * 5, [0.5] * 6, [-1] * 6, [1 << 40] * 6, ["\x1b[31m"] * 6, [[0]] * 6)))}  # fmt: skip
        np.savez_compressed(folder / "d.npz", allow_pickle=True, **columns)
        data = (folder / "d.npz").read_bytes()
        if what == 7:
            (folder / "d.npz").write_bytes(data[: random.randrange(len(data))])
        return "d.npz"
    return "d.npy"


def archive(random: Random, folder: Path) -> str:
    """Zip archives that lead elsewhere, lie, or unfold without end."""
    path = folder / "d.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for number in range(4):
            zipped.writestr(f"a/{number}.png", picture(random))
        what = random.randrange(7)
        if what == 0:
            zipped.writestr(
                random.choice(("../../home/evil.png", "/tmp/evil.png", "a/../../x.png")), picture(random)
            )
        elif what == 1:
            zipped.writestr("a/bomb.png", bytes(1 << 29), compresslevel=1)
        elif what == 2:
            entry = zipfile.ZipInfo("a/link.png")
            entry.external_attr = 0o120777 << 16
            zipped.writestr(entry, "/etc/passwd")
        elif what == 3:
            zipped.writestr(f"a/{random.choice(ESCAPES)}.png", b"no")
        elif what == 4:
            zipped.writestr("metadata.csv", b"file_name,text\n" + b"a" * (1 << 25))
    data = bytearray(path.read_bytes())
    if what == 5:
        path.write_bytes(data[: random.randrange(len(data))])
    elif what == 6:
        data[random.randrange(len(data))] ^= 0xFF
        path.write_bytes(data)
    return "d.zip"


def idx(random: Random, folder: Path) -> str:
    """Files like MNIST's with sizes that lie."""
    head = random.choice([b"\0\0\x08\x03" + struct.pack(">3I", *random.choice([(4, 8, 8), (1 << 31, 8, 8),
    (0, 8, 8)])),
                          b"\0\0\x08\xff", b"\0\0\x0d\x03" + bytes(12), b"",
                          b"\x1f\x8b" + random.randbytes(30)])  # fmt: skip
    (folder / "train-images-idx3-ubyte").write_bytes(head + random.randbytes(random.choice((0, 256, 100))))
    (folder / "train-labels-idx1-ubyte").write_bytes(
        b"\0\0\x08\x01" + struct.pack(">I", random.choice((4, 9))) + bytes(4)
    )
    return random.choice(("train-images-idx3-ubyte", "."))


def paths(random: Random, folder: Path) -> str:
    """Paths that are no data at all."""
    return random.choice(["/dev/zero", "/dev/full", "/dev/null", "/proc/self/mem", "/proc", "missing",
    "x" * 5000, "",
                          "../home/.ssh/id", "/", "~nobody/x", "a\nb", "\x1b[31m", "/dev/stdin", "//",
                          "-"])  # fmt: skip


DATA: tuple[Data, ...] = (bad_image, bad_image, bad_image, odd_files, odd_names, table, table, coco, arrays,
arrays,
                          archive, idx, paths)  # fmt: skip


def hostile(trial: Trial) -> None:
    """Looked over, then trained on for a step. What is refused leaves no run behind."""
    random = trial.random
    kind = DATA[trial.number % len(DATA)]
    with trial.boxed() as run:
        folder = trial.box / "out/data"
        folder.mkdir()
        path = kind(random, folder)
        place = path if kind is paths else os.path.join("out/data", path)
        trial.done.append(f"{kind.__name__} ({', '.join(sorted(os.listdir(folder)))[:60]!r})")
        trial.run("data", "inspect", place, "--sheet", "out/sheet.png", "--processes", "1")
        keys = [key for key in COMMON if not key.startswith(("data.", "train.steps"))]
        extra = random.choice(
            ((), ("data.skip_bad=true",), ("data.size=8",), ("data.size=8", "data.channels=1"))
        )
        ended = trial.run("train", "digits-class", f"data.path={place}", "network.width=4", "sample.steps=1",
        *keys,
                          "train.steps=1", *extra, "--name", "x")  # fmt: skip
        trial.check(LEFT, ended.code == 0 or not run.exists(), "refused, and a run is left behind")
        trial.check_left()
        trial.check_list()
