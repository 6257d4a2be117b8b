"""What a tape costs and brings: bytes and seconds a frame, and how far its pictures are from exact ones.

    python benchmarks/tape.py

A small DCGAN is trained on drawn skylines; at its steps frames are written in several ways. Times are
processor time, so that other programs on the machine matter little. The pictures of a frame are those of 64
latents, compared with pictures from the averaged weights in fp32: grey levels of 255, over all pixels.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import zstandard
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from safelight.data.space import Space
from safelight.engine.distributed import World
from safelight.engine.fingerprint import count
from safelight.engine.loop import Job, Signals, train
from safelight.engine.state import State
from safelight.loading.prepare import prepare
from safelight.recipe import Recipe, load
from safelight.samplers.generate import conditions, generate
from safelight.store import tape as frame
from safelight.store.tape import TapeReader, TapeWriter
from safelight.types import DataSpec

STEPS = 300
EVERY = 10  # of the sparse tape, of the pictures, and of what is too large to be kept at every step
KEYFRAME = 48
LEVELS = (1, 3, 9)  # of zstd
CHANGES: dict[str, object] = {
    "network.generator": {"name": "dc_generator", "stem": 256, "stages": [128, 64, 32, 32]},
    "network.discriminator": {"name": "dc_discriminator", "enter": 32, "stages": [64, 128, 128, 128]},
    "method.loss": "non-saturating",
    "method.separate": True,
    "loss.weights": {},
    "optim.generator.lr": 2e-4,
    "optim.discriminator.lr": 2e-4,
    "optim.generator.betas": [0.5, 0.999],
    "optim.discriminator.betas": [0.5, 0.999],
    "train.batch_size": 16,
    "train.precision": "fp32",
    "train.memory_format": "contiguous",
}


@dataclass
class Kept:
    """What one way of keeping a step took."""

    title: str
    bytes: list[int] = field(default_factory=list)  # of each frame
    write: list[float] = field(default_factory=list)  # processor seconds of each
    onwards: float = 0.0  # processor seconds to read a frame after the one before it
    anywhere: float = 0.0  # and one of any step
    error: tuple[float, int] = (0.0, 0)  # grey levels: mean, largest

    def add(self, write: Callable[[], int]) -> None:
        """Keep one more frame."""
        began = time.process_time()
        size = write()
        self.write.append(time.process_time() - began)
        self.bytes.append(size)

    def row(self, whole: float) -> str:
        """A row of the table. whole: bytes of a frame of what it is compared with."""
        size = statistics.mean(self.bytes)
        cells = [f"{size / 1e3:,.0f}", f"{whole / size:.1f}", f"{1e3 * statistics.median(self.write):.1f}"]
        cells += [f"{1e3 * self.onwards:.1f}", f"{1e3 * self.anywhere:.1f}"] if self.onwards else ["", ""]
        return f"| {self.title} | {' | '.join(cells)} | {self.error[0]:.3f} / {self.error[1]} |"


def main() -> None:
    """Train, keep, and print the tables."""
    torch.set_num_threads(1)
    recipe = load("skylines-small", {**CHANGES, "train.steps": STEPS})
    ready = prepare(recipe, World())
    state = ready.state("contiguous")
    averaged = state.averages.networks
    models, floats = Kept("both models, fp32"), Kept("averaged generator, fp32")
    deltas = Kept("the same, fp32 differences, zstd")
    every, sparse = Kept("tape, every step"), Kept(f"tape, every {EVERY} steps")
    levels = {level: Kept(f"level {level}") for level in LEVELS}
    exact: dict[int, NDArray[np.uint8]] = {}
    steps: list[float] = []
    before: tuple[Tensor, frame.Bits] | None = None  # weights of the last step, and their bits
    with tempfile.TemporaryDirectory() as folder:
        homes = [Path(tempfile.mkdtemp(dir=folder)) for _ in range(2)]
        dense_tape, sparse_tape = (TapeWriter(home, 1) for home in homes)

        def boundary(signals: Signals) -> None:
            nonlocal before
            if began:
                steps.append(time.process_time() - began.pop())
            step = state.step
            every.add(lambda: dense_tape.append(step, averaged, KEYFRAME))
            weights = torch.cat([p.reshape(-1) for p in averaged["generator"].parameters()])
            bits = frame.ordered(weights.to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16))
            if before is not None:
                weights_before, bits_before = before
                deltas.add(lambda: difference(weights, weights_before))
                for level, kept in levels.items():
                    kept.add(lambda level=level: len(frame.encode(bits, bits_before, level)))  # type: ignore[misc]
            before = weights, bits
            if step % EVERY == 0:
                sparse.add(lambda: sparse_tape.append(step, averaged, KEYFRAME))
                nets = {**state.nets}
                models.add(lambda: written(folder, {f"{name}.{key}": value for name, net in nets.items()
                                                    for key, value in net.state_dict().items()}))  # fmt: skip
                floats.add(lambda: written(folder, averaged["generator"].state_dict()))
                exact[step] = pictures(recipe, state)
            began.append(time.process_time())

        began: list[float] = []
        job = Job(ready.method, state, ready.stream, lambda step: ready.plan, lambda record: None, boundary)
        train(job)
        for tape, home, kept in zip((dense_tape, sparse_tape), homes, (every, sparse), strict=True):
            tape.close()
            read(TapeReader(home), kept, recipe, state, exact)
    whole = statistics.mean(models.bytes)
    generator, discriminator = (count(state.nets, [name]) for name in ("generator", "discriminator"))
    print(
        f"torch {torch.__version__}, 1 thread, load {os.getloadavg()[0]:.1f}; {STEPS} steps of "
        f"{1e3 * statistics.median(steps):.0f} ms; {generator:,} and {discriminator:,} parameters\n"
    )
    print("| | KB a frame | times less | write, ms | read on, ms | read anywhere, ms | grey levels off |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for kept in (models, floats, deltas, every, sparse):
        print(kept.row(whole))
    third = len(every.bytes) // 3
    thirds = [statistics.mean(every.bytes[at : at + third]) / 1e3 for at in (0, third, 2 * third)]
    sizes = ", ".join(f"{size:,.0f}" for size in thirds)
    print(f"\ntape of every step, by thirds of the training: {sizes} KB")
    print("\n| zstd of the differences | KB a frame | ms |\n|---|---:|---:|")
    for kept in levels.values():
        size, cost = statistics.mean(kept.bytes) / 1e3, 1e3 * statistics.median(kept.write)
        print(f"| {kept.title} | {size:,.0f} | {cost:.1f} |")


def difference(now: Tensor, before: Tensor) -> int:
    """Bytes of the differences of the bits of fp32 weights, by planes."""
    changed = (now.view(torch.int32) - before.view(torch.int32)).numpy()
    planes = np.ascontiguousarray(changed.view(np.uint8).reshape(-1, 4).T)
    return len(zstandard.ZstdCompressor(level=3).compress(planes.data))


def written(folder: str, weights: dict[str, Tensor]) -> int:
    """Weights as a safetensors file; its bytes."""
    data = save({name: value.contiguous() for name, value in weights.items()})
    Path(folder, "weights.safetensors").write_bytes(data)
    return len(data)


def pictures(recipe: Recipe, state: State) -> NDArray[np.uint8]:
    """64 samples of the averaged weights as they are now."""
    given, present = conditions(DataSpec((3, 64, 64)), {}, 64, torch.device("cpu"))
    x = generate(recipe.method(), state.averages.networks, recipe.sample, given, present, 0)
    return Space().to_pixels(x)


def read(
    tape: TapeReader, kept: Kept, recipe: Recipe, state: State, exact: dict[int, NDArray[np.uint8]]
) -> None:
    """Read a tape in order and at random; compare its pictures."""
    began = time.process_time()
    for step in tape.steps:
        tape.read(step)
    kept.onwards = (time.process_time() - began) / len(tape.steps)
    somewhere = np.random.default_rng(0).choice(tape.steps, 30)
    began = time.process_time()
    for step in somewhere:
        TapeReader(tape.run).read(int(step))
    kept.anywhere = (time.process_time() - began) / len(somewhere)
    errors = []
    for step, wanted in exact.items():
        state.averages.networks["generator"].load_state_dict(tape.read(step)["generator"])
        errors.append(np.abs(pictures(recipe, state).astype(int) - wanted))
    kept.error = float(np.mean(errors)), int(np.max(errors))


if __name__ == "__main__":
    main()
