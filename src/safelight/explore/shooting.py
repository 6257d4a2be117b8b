"""Many pictures of a run, each taken once. They wait in a folder until all are there, so that a film that is
cut off goes on where it was; several processes share the work.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from safelight.config import UserError
from safelight.explore.path import FilmSubject, take
from safelight.fanout import each
from safelight.loading.averages import require_either
from safelight.loading.model import MATCHES, SURE, UNDAMAGED
from safelight.loading.prepare import pool_of
from safelight.loading.replay import Replay
from safelight.render.sheet_file import open_picture
from safelight.store import checkpoint_files, sealed
from safelight.store.directory import RunDirectory
from safelight.store.durable import mendable, sweep, write_bytes
from safelight.store.frames import ReelReader
from safelight.store.tape import TapeReader
from safelight.types import Tell

Progress = Callable[[str, int, int], None]  # what is being done, how much of it is done, of how much


PLAN = "film.json"


class Weights(NamedTuple):
    """Which weights pictures are taken with; by default train.ema's average, rounded as tapes have it."""

    ema_length: float | None
    raw: bool

    @property
    def other(self) -> bool:
        """Whether neither live films nor tapes hold them."""
        return self.raw or self.ema_length is not None


@dataclass(frozen=True)
class Shot:
    """A frame: pictures that are taken with the weights of one step."""

    number: int  # from 0
    step: int
    subjects: tuple[FilmSubject, ...]

    @property
    def file(self) -> str:
        """Its name in the folder where frames wait."""
        return f"{self.number:06d}.png"


@dataclass(frozen=True)
class Sources:
    """Where the weights of the pictures came from, and how sure that is."""

    frames: Mapping[str, int]  # by "live", "tape", "checkpoint", "replay"
    verdict: str  # "exact", or what the worst of them is


def shoot(
    directory: RunDirectory,
    shots: Sequence[Shot],
    folder: Path,
    how: Mapping[str, Any],
    on: str | None = None,
    tell: Tell = lambda line: None,
    progress: Progress = lambda stage, done, total: None,
    *,
    ema_length: float | None = None,
    raw: bool = False,
) -> Sources:
    """Take what is missing of the shots in a folder, `Shot.file` each. Raises UserError.

    how: keys of [sample] to change. on: where stretches are taken at once, see `fanout.pool`. ema_length,
    raw: other weights, as of `averages.weighted`. A folder with pictures of other shots is emptied first.
    """
    require_either(ema_length, raw)
    weights = Weights(ema_length, raw)
    _prepare(folder, directory, shots, how, weights)
    missing = sorted(
        (shot for shot in shots if not (folder / shot.file).exists()), key=lambda shot: shot.step
    )
    if len(missing) < len(shots):
        tell(f"{len(shots) - len(missing)} of {len(shots)} frames exist already")
    done = len(shots) - len(missing)
    if not on or len(missing) < 2:
        for line in _work(
            directory.path,
            missing,
            folder,
            how,
            weights,
            tell,
            lambda n: progress("frames", done + n, len(shots)),
        ):
            tell(line)
        return _sources(folder, shots)
    folder, path = folder.absolute(), directory.path.absolute()
    with pool_of(directory, on, len(missing), folder) as workers:
        pieces = _pieces(missing, workers.size, _cheap(directory))
        tasks = [(path, piece, folder, how, weights) for piece in pieces]
        seen = lambda: (len(list(folder.glob("[0-9]*.png"))), len(shots))  # noqa: E731
        lines = [line for _, told in each(workers, _work, tasks, what="frames", progress=progress, seen=seen)
                 for line in told]  # fmt: skip
    for line in dict.fromkeys(lines):
        tell(line)
    return _sources(folder, shots)


def pictures_of(folder: Path, shot: Shot) -> NDArray[np.uint8]:
    """The pictures of a shot that was taken, (n, H, W, C). Raises UserError."""
    pixels = np.asarray(open_picture(folder / shot.file))
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    return pixels.reshape(len(shot.subjects), -1, *pixels.shape[1:])


def _work(
    path: Path,
    shots: Sequence[Shot],
    folder: Path,
    how: Mapping[str, Any],
    weights: Weights,
    tell: Tell | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> list[str]:
    """Take some shots, their steps increasing. Returns lines for the user that could not be told at once."""
    messages: list[str] = []
    say = tell or messages.append
    directory, reel = RunDirectory(path), ReelReader(path)
    for damage in reel.damage:
        say(damage)
    replay: Replay | None = None
    for number, shot in enumerate(shots):
        if (folder / shot.file).exists():
            continue  # taken before another process died
        pictures = None if how or weights.other else _live(reel, shot, say)
        source, verdict = "live", UNDAMAGED
        if pictures is None:
            replay = replay or Replay(directory, say)
            if weights.other:
                model = replay.weighted(shot.step, *weights, tell=lambda line: None)  # a line for each frame
            else:
                model = replay.rounded(shot.step)
            model = model.changed(how)
            pictures = [take(model, subject) for subject in shot.subjects]
            source, verdict = model.source, model.verdict.verdict
        write_bytes(folder / shot.file, _encoded(pictures, source, verdict))
        progress(number + 1)
    return list(dict.fromkeys(messages))


def _live(reel: ReelReader, shot: Shot, tell: Tell) -> list[NDArray[np.uint8]] | None:
    """The pictures of a shot as they were filmed live; None unless all were, and none is damaged."""
    if any(subject.other or (shot.step, str(subject.specimen)) not in reel for subject in shot.subjects):
        return None
    try:
        return [reel.read(shot.step, str(subject.specimen)) for subject in shot.subjects]
    except UserError as damage:
        tell(str(damage))
        return None


def _encoded(pictures: Sequence[NDArray[np.uint8]], source: str, verdict: str) -> bytes:
    pixels = np.concatenate(pictures)
    text = PngInfo()
    text.add_text("source", source)
    text.add_text("verdict", verdict)
    buffer = io.BytesIO()
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.save(buffer, "PNG", pnginfo=text, compress_level=1)
    return buffer.getvalue()


def _sources(folder: Path, shots: Sequence[Shot]) -> Sources:
    frames: Counter[str] = Counter()
    verdicts: Counter[str] = Counter()
    for shot in shots:
        info = open_picture(folder / shot.file).info
        frames[str(info.get("source"))] += 1
        verdicts[str(info.get("verdict"))] += 1
    doubt = next((verdict for verdict in verdicts if verdict not in SURE), None)
    weakest = next((verdict for verdict in (UNDAMAGED, MATCHES) if verdict in verdicts), "exact")
    return Sources(dict(frames), doubt or weakest)


def _prepare(
    folder: Path, directory: RunDirectory, shots: Sequence[Shot], how: Mapping[str, Any], weights: Weights
) -> None:
    """Make the folder, or find it with pictures of these very shots."""
    described = repr([[asdict(shot) for shot in shots], sorted(how.items())])
    plan = {
        "run": directory.info().id,
        "shots": blake2b(described.encode(), digest_size=16).hexdigest(),
        "images": f"{weights}" if weights.other else "rounded to bfloat16",
    }
    with mendable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        files = list(folder.iterdir())
        if (folder / PLAN).exists():
            if sealed.read(folder / PLAN) == plan:
                sweep(folder, alone=True)
                return
            for file in files:
                file.unlink()
        elif files:
            raise UserError(f"{folder}: exists and holds other files; move it, or choose another --out")
    write_bytes(folder / PLAN, sealed.pretty(plan))


def _cheap(directory: RunDirectory) -> Callable[[Shot, Shot], bool]:
    """Whether a process may begin with the second of two shots without recomputing what another one does."""
    tape, steps = TapeReader(directory.path), checkpoint_files.list_steps(directory.path)
    return lambda before, shot: shot.step in tape or any(before.step < step <= shot.step for step in steps)


def _pieces(shots: Sequence[Shot], workers: int, cheap: Callable[[Shot, Shot], bool]) -> list[Sequence[Shot]]:
    """At most as many stretches as workers, about equally long, each begun where that costs little."""
    places = [at for at in range(1, len(shots)) if cheap(shots[at - 1], shots[at])]
    ideal = [len(shots) * number // workers for number in range(1, workers)]
    cuts = sorted({min(places, key=lambda place: abs(place - at)) for at in ideal}) if places else []
    return [shots[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(shots)], strict=True)]
