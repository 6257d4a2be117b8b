"""Samples written as they are drawn: into a folder or a tar, in chunks, and never half of one.

All of it grows in OUT.part, and done.json there says how much is on disk: what was written after it is cut
off when the same request goes on. So a chunk is lost at most, and OUT has the bytes that it would have had.

folder: 000000.png, ..., masks/000000.png, metadata.csv of the conditions (Hugging Face's imagefolder).
tar: 000000.png, .cls, .txt, .mask.png and .json of a sample one after another, as WebDataset has them.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from safelight.config import UserError
from safelight.data.images import straight
from safelight.engine.memory import memory
from safelight.explore.conditions import Conditions
from safelight.explore.samples import Samples, require_place
from safelight.loading.model import Model
from safelight.randomness import RowDraw
from safelight.samplers.generate import CHUNK
from safelight.store import sealed
from safelight.store.durable import fsync_directory, mendable, publish, write_bytes
from safelight.store.size import words
from safelight.types import Tell, Values

FACTS, TABLE, MASKS, DONE, TAR, LOCK = "samples.json", "metadata.csv", "masks", "done.json", "tar", "lock"
HIDDEN = "__samples__"  # folder of a tar that WebDataset passes over
LONG = 60.0  # seconds from which on an estimate is said
SHARE = 2  # of the free memory one part is for a chunk, and of that one part for what layers need besides


class Output:
    """A folder or .tar that samples are written to; `with Output(...) as output` holds it alone."""

    def __init__(self, out: Path, facts: Mapping[str, Any], chunk: int | None = None) -> None:
        """facts: all that the samples depend on. chunk: drawn at once; None for as many as until now.

        Raises UserError for a place that holds something, also samples of another request.
        """
        require_place(out)
        self.out, self.part = out, out.with_name(f"{out.name}.part")
        self.facts = json.loads(json.dumps({**facts, "chunk": chunk}))
        self.rows = self.size = self.table = 0  # what is done: samples, bytes of the tar, bytes of the table
        if (self.part / FACTS).exists():
            self._go_on()

    def _go_on(self) -> None:
        known = dict(sealed.read(self.part / FACTS))
        self.facts["chunk"] = self.facts["chunk"] or known.get("chunk")
        if other := [name for name in {**known, **self.facts} if known.get(name) != self.facts.get(name)]:
            raise UserError(
                f"{self.part}: holds samples of another {' and '.join(sorted(other))}; repeat that request, "
                "delete it, or choose another --out"
            )
        if (self.part / DONE).exists():
            done = sealed.read(self.part / DONE)
            self.rows, self.size, self.table = (int(done[name]) for name in ("rows", "size", "table"))

    @contextmanager
    def open(self) -> Iterator[Output]:
        """Hold the place as its one writer. Raises UserError where another process does."""
        import filelock

        with mendable(self.part):
            self.part.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.part / LOCK, timeout=0)
            try:
                lock.acquire()
            except filelock.Timeout:
                raise UserError(f"{self.part}: is being written by another process; wait for it") from None
            try:
                if not (self.part / FACTS).exists():
                    write_bytes(self.part / FACTS, sealed.pretty(self.facts))
                for name, size in ((TAR, self.size), (TABLE, self.table)):
                    with (self.part / name).open("ab") as file:
                        file.truncate(size)  # what was written after the last whole chunk
                for path in (*self.part.glob("*.png"), *self.part.glob(f"{MASKS}/*.png")):
                    if int(path.stem) >= self.rows:
                        path.unlink()
                yield self
            finally:
                lock.release()

    def add(self, samples: Samples) -> int:
        """Write the samples that come next, and that they are there. Returns the bytes of them all."""
        with mendable(self.part):
            write = self._into_tar if self.out.suffix == ".tar" else self._into_folder
            written = write(samples)
            self.table = self._append(TABLE, self._rows_of_table(samples), self.table)
            self.rows += len(samples.images)
            done = {"rows": self.rows, "size": self.size, "table": self.table}
            write_bytes(self.part / DONE, sealed.pretty(done))
        return written

    def estimate(self, count: int, seconds: float, written: int, tell: Tell) -> None:
        """Say what all take, from what the first chunk took. Raises UserError where the disk has no room."""
        chunk = self.facts["chunk"]
        left = (count - self.rows) / chunk
        if written * left > (free := shutil.disk_usage(self.part).free):
            raise UserError(
                f"{self.part}: takes about {words(round(written * left))} more, and {words(free)} are free; "
                "make room, then repeat the command, which goes on"
            )
        if seconds * left > LONG:
            time, rate = timedelta(seconds=round(seconds * left)), chunk / seconds
            size = words(round(written * count / chunk))
            tell(f"{count:,} samples: about {time} ({rate:,.1f}/s), {size}; Ctrl-C stops, "
                 "the same command goes on")  # fmt: skip

    def finish(self) -> Path:
        """Give the whole its name. Raises UserError."""
        self.facts["count"] = self.rows
        with mendable(self.out):
            if self.out.suffix == ".tar":
                with (self.part / TAR).open("r+b") as file:
                    file.seek(self.size)
                    with tarfile.open(fileobj=file, mode="w") as tar:
                        _put(tar, f"{HIDDEN}/{FACTS}", sealed.pretty(self.facts))
                    file.truncate()
                    os.fsync(file.fileno())
                publish(self.part / TAR, self.out)
                shutil.rmtree(self.part)
            else:
                write_bytes(self.part / FACTS, sealed.pretty(self.facts))
                for name in (DONE, TAR, LOCK, *(() if self.table else (TABLE,))):
                    (self.part / name).unlink(missing_ok=True)
                publish(self.part, self.out)
        return self.out

    def _into_folder(self, samples: Samples) -> int:
        files = {
            f"{self.rows + row:06d}.png": image
            for row, image in enumerate(straight(samples.images, samples.background))
        }
        if samples.masks is not None:
            (self.part / MASKS).mkdir(exist_ok=True)
            files |= {f"{MASKS}/{self.rows + row:06d}.png": mask for row, mask in enumerate(samples.masks)}
        written = 0
        for name, pixels in files.items():
            with (self.part / name).open("wb") as file:
                written += file.write(_png(pixels))
        for name in files:  # after all are written, of which the first brings most to the disk
            with (self.part / name).open("rb") as file:
                os.fsync(file.fileno())
        fsync_directory(self.part)
        return written

    def _into_tar(self, samples: Samples) -> int:
        buffer = io.BytesIO()
        tar = tarfile.open(fileobj=buffer, mode="w")  # noqa: SIM115 closing it would end the archive
        for row, image in enumerate(straight(samples.images, samples.background)):
            key, cells = f"{self.rows + row:06d}", samples.cells[row] if samples.cells else {}
            _put(tar, f"{key}.png", _png(image))
            if samples.masks is not None:
                _put(tar, f"{key}.mask.png", _png(samples.masks[row]))
            if "label" in cells and cells["label"] != "":
                _put(tar, f"{key}.cls", str(cells["label"]).encode())
            if "text" in cells and cells["text"] != "":
                _put(tar, f"{key}.txt", str(cells["text"]).encode())
            if cells:
                _put(tar, f"{key}.json", json.dumps(cells, ensure_ascii=False).encode())
        self.size = self._append(TAR, buffer.getvalue(), self.size)
        return buffer.tell()

    def _rows_of_table(self, samples: Samples) -> bytes:
        """Rows of metadata.csv, below its header at the start; nothing where there are no conditions."""
        if not samples.cells and samples.masks is None:
            return b""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        masks, columns = samples.masks is not None, list(samples.cells[0]) if samples.cells else []
        if not self.rows:
            table.writerow(["file_name", *(["mask"] if masks else []), *columns])
        for row in range(len(samples.images)):
            name = f"{self.rows + row:06d}.png"
            cells = [samples.cells[row][column] for column in columns]
            table.writerow([name, *([f"{MASKS}/{name}"] if masks else []), *cells])
        return text.getvalue().encode()

    def _append(self, name: str, data: bytes, size: int) -> int:
        """Write to a file from a place on, to the disk; returns where it ends."""
        if data:
            with (self.part / name).open("r+b") as file:
                file.seek(size)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        return size + len(data)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    grey = pixels.ndim == 3 and pixels.shape[2] == 1
    Image.fromarray(pixels[:, :, 0] if grey else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _put(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """A file of an archive, the same at any time and for any user."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def drawn(model: Model, stated: Conditions, rows: range, seed: int, chunk: int | None = None) -> Samples:
    """Samples of a seed by their numbers. chunk: how many are drawn at once. Raises UserError."""
    given, present = stated.of(rows)
    return Samples(
        model.generate(given, present, seed, rows.start, chunk),
        {name: value.cpu().numpy() for name, value in given.items()},
        present.cpu().numpy(),
        model.spec,
        model.how.model_dump(),
        stated.words(rows, given, present),
        stated.masks(rows),
        model.recipe.data.background,
    )


def fitting_chunk(model: Model, given: Values, present: Tensor) -> int:
    """How many images to draw at once, up to `CHUNK`: as many as the free memory of the device holds.

    One image is drawn. What the layers of a network put out in one evaluation is taken to be there at once.
    given, present: of that image.
    """
    most = now = 0

    def begin(*_: object) -> None:
        nonlocal now
        now = 0

    def count(layer: object, inputs: object, output: object) -> None:
        nonlocal most, now
        now += output.nbytes if isinstance(output, Tensor) else 0
        most = max(most, now)

    hooks = [net.register_forward_pre_hook(begin) for net in model.nets.values()]
    hooks += [layer.register_forward_hook(count) for net in model.nets.values() for layer in net.modules()]
    try:
        draw = RowDraw(0, 0, "sample", range(1), present.device)
        with torch.no_grad():
            model.sample(model.method.latent(draw), given, present, draw)
    finally:
        for hook in hooks:
            hook.remove()
    return max(1, min(CHUNK, memory(model.device) // (SHARE * SHARE * max(most, 1))))
