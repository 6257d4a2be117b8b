"""What a recipe will take, before it is trained: operations, memory, hours, disk, and what fits."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from safelight.config import UserError
from safelight.data import open_data
from safelight.data.source import Progress
from safelight.data.space import Space
from safelight.data.stream import Stream
from safelight.data.views import views_of
from safelight.engine.distributed import World
from safelight.engine.memory import KEPT_FREE, memory
from safelight.engine.precision import Execution
from safelight.loading.dependencies import references, used
from safelight.loading.prepare import Prepared, open_device
from safelight.loading.probe import choose_execution
from safelight.monitor.forecast import Forecast as Ends
from safelight.planning import devices, standin
from safelight.planning.devices import Accelerator
from safelight.planning.measure import Bench, Cost
from safelight.recipe import Recipe
from safelight.report.forecasts import forecast_before
from safelight.store.directory import RunDirectory
from safelight.training.forecast import Forecast, forecast
from safelight.training.stages import existing
from safelight.training.watch import watched_conditions, watched_images
from safelight.types import Tell

How = Literal["measured", "estimated"]


@dataclass(frozen=True)
class Memory:
    """Bytes while so many images are trained on at once: of the process on a CPU, of tensors elsewhere."""

    rows: int
    bytes: int
    how: How


@dataclass(frozen=True)
class Planned:
    """The plan of a recipe."""

    recipe: str
    device: str
    execution: Execution
    images: int
    steps: int
    batch_size: int
    accumulate: int
    parameters: Mapping[str, int]
    operations: float  # of a step
    cost: Cost  # of a step
    cost_how: How
    watching: float  # seconds of all sheets together
    memory: Sequence[Memory]
    available: int  # bytes
    fits: int  # most images at once
    disk: Forecast
    ends: Ends | None  # the mean held-out loss, by runs of its kind
    notes: Sequence[str]

    @property
    def hours(self) -> float:
        """Of training, sheets included."""
        return (self.cost.seconds * self.steps + self.watching) / 3600

    @property
    def suggested(self) -> int | None:
        """The fewest parts of a batch that fit; None where not even single images do."""
        parts = (number for number in range(1, self.batch_size + 1) if self.batch_size % number == 0)
        return next((number for number in parts if self.batch_size // number <= self.fits), None)

    @property
    def needed(self) -> Memory:
        """At the recipe's own batch size and accumulation."""
        return next(memory for memory in self.memory if memory.rows == self.batch_size // self.accumulate)

    def to_dict(self) -> dict[str, Any]:
        """In plain values."""
        return {
            "recipe": self.recipe,
            "device": self.device,
            **asdict(self.execution),
            "images": self.images,
            "steps": self.steps,
            "batch_size": self.batch_size,
            "accumulate": self.accumulate,
            "parameters": dict(self.parameters),
            "operations_a_step": self.operations,
            "seconds_a_step": self.cost.seconds,
            "processor_seconds_a_step": self.cost.processor,
            "seconds_how": self.cost_how,
            "seconds_a_kimg": self.cost.seconds / self.batch_size * 1000,
            "hours": self.hours,
            "memory": [asdict(memory) for memory in self.memory],
            "memory_needed": self.needed.bytes,
            "memory_available": self.available,
            "rows_that_fit": self.fits,
            "accumulate_that_fits": self.suggested,
            "disk": {**asdict(self.disk), "total": self.disk.total},
            "held_out": asdict(self.ends) if self.ends else None,
            "notes": list(self.notes),
        }


AFFORDED = 40.0  # seconds for the steps that are timed at full size


def plan(
    recipe: Recipe,
    runs: Path,
    accelerator: Accelerator | None = None,
    tell: Tell = lambda line: None,
    progress: Progress | None = None,
) -> Planned:
    """Plan a recipe from a few steps on its device. Raises UserError.

    runs: where trainings that it needs first are looked for. accelerator: estimate for this one instead, from
    operations and memory that are measured here.
    """
    notes: list[str] = []
    ready = ready_for(recipe, runs, notes, progress)
    stream, rows = ready.stream, recipe.train.batch_size // recipe.train.accumulate
    state = ready.state("contiguous")
    bench = Bench(state, ready.method, stream, ready.plan, Execution("fp32", "contiguous"))
    tell("counting operations")
    few = min(2, rows)
    operations = bench.operations(few) / few * recipe.train.batch_size
    expected = _expected(bench, recipe.train.batch_size, few, rows)
    execution = choose_execution(ready, tell)
    if execution != Execution("fp32", "contiguous"):
        state = ready.state(execution.memory_format, compile=execution.compile)
        bench = Bench(state, ready.method, stream, ready.plan, execution)
    tell("measuring steps")
    cost, how = _cost(bench, recipe, expected)
    tell("measuring memory")
    resident = bench.resident()
    few, many = _two_sizes(rows, expected / recipe.train.batch_size)
    peaks = {size: bench.peak(size) for size in sorted({few, many})}
    base = bench.base()
    available = memory(ready.device)
    if accelerator:
        base = 0
        available = round(accelerator.gigabytes * 1e9 * KEPT_FREE)
        seconds = operations / (accelerator.teraflops * 1e12 * devices.ASSUMED)
        cost, how = Cost(seconds, seconds), "estimated"
        notes.append(
            f"{accelerator.name}: seconds are operations at {devices.ASSUMED:.0%} of its peak of "
            f"{accelerator.teraflops:g} TFLOP/s, memory is that of the tensors in {execution.precision} here"
        )
    fits = _fits(base + resident, peaks, available)
    if fits < rows and not recipe.train.recompute:
        notes += _recomputed(ready, execution, [*peaks], base + resident, available)
    return Planned(
        recipe=recipe.name,
        device=accelerator.name if accelerator else str(ready.device),
        execution=execution,
        images=ready.pack.trained,
        steps=ready.plan.steps,
        batch_size=recipe.train.batch_size,
        accumulate=recipe.train.accumulate,
        parameters={name: sum(p.numel() for p in net.parameters()) for name, net in state.nets.items()},
        operations=operations,
        cost=cost,
        cost_how=how,
        watching=0.0 if accelerator else _watching(ready, bench, execution, expected, notes),
        memory=_memory(base + resident, peaks, rows, accelerator is None),
        available=available,
        fits=fits,
        disk=forecast(recipe, state, ready.pack.spec, ready.plan.steps),
        ends=forecast_before(recipe.tree, ready.pack.fingerprint, ready.plan.steps, runs),
        notes=notes,
    )


def ready_for(recipe: Recipe, runs: Path, notes: list[str], progress: Progress | None) -> Prepared:
    """The recipe with its data, or with what stands in for them and for an autoencoder."""
    device = open_device(recipe.train.device)
    latents = recipe.data.latents is not None
    others = {key for key in references(recipe) if not key.startswith("data.latents")}
    products = existing(recipe, runs) if others and not latents else {}
    opened = used(recipe, products)
    if standin.needs_data(recipe.stated):
        pack = standin.pack_of(recipe.data)
        notes.append(
            "no data are named: random images of the stated size stand in; name data.path for epochs"
        )
    else:
        pack = open_data(opened.data, progress)
    space = Space()
    if latents:
        space, source = standin.space_of(recipe, pack, runs)
        notes.append(f"latents are stood in for: {source}; encoding the images once is not counted")
    stream = Stream(
        pack,
        recipe.train.seed,
        recipe.train.batch_size,
        views=views_of(recipe.data, *pack.images.shape[1:3]),
        device=device,
        space=space,
    )
    return Prepared(recipe, pack, stream, opened.method(), device, World(), products)


def _expected(bench: Bench, batch_size: int, few: int, rows: int) -> float:
    """Seconds of a step, roughly: by a few images, and by more of them where that is quick."""
    expected = bench.steps(few, 1, 2)[-1].seconds / few * batch_size
    if few < rows and expected < AFFORDED:  # few images cost more each
        some = min(16, rows)
        expected = bench.steps(some, 1, 2)[-1].seconds / some * batch_size
    return expected


def _cost(bench: Bench, recipe: Recipe, expected: float) -> tuple[Cost, How]:
    """Whole steps where they can be afforded; otherwise two small sizes, and a straight line through them."""
    batch, parts = recipe.train.batch_size, recipe.train.accumulate
    if expected * 8 < AFFORDED:
        return bench.time(batch, parts), "measured"
    if expected * 3 < AFFORDED:
        return bench.time(batch, parts, timed=2), "measured"
    few, many = _two_sizes(batch // parts, expected / batch)
    first, second = bench.time(few, timed=1), bench.time(many, timed=1)
    wall = _line({few: first.seconds, many: second.seconds}, batch)
    return Cost(wall, _line({few: first.processor, many: second.processor}, batch)), "estimated"


def _two_sizes(rows: int, seconds_an_image: float) -> tuple[int, int]:
    """Two numbers of images at once that can be tried, the larger all of a part where there is time."""
    many = max(2, min(rows, int(AFFORDED / 4 / max(seconds_an_image, 1e-9)))) if rows > 1 else 1
    return max(1, many // 2), many


def _line(known: Mapping[int, float], at: int) -> float:
    """A quantity at another size, by the straight line through two."""
    (few, low), *rest = sorted(known.items())
    if not rest:
        return low * at / few
    many, high = rest[-1]
    slope = max((high - low) / (many - few), 0.0)
    return high + slope * (at - many)


def _memory(fixed: int, peaks: Mapping[int, int], rows: int, here: bool) -> list[Memory]:
    """By images at once: the recipe's own, half and twice as many, and powers of two below.

    fixed: bytes that do not depend on them. here: whether it is this machine that is planned for.
    """
    sizes = sorted({*(2**power for power in range(int(math.log2(max(rows, 1))) + 2)), rows, *peaks})
    return [
        Memory(size, fixed + round(peaks[size] if size in peaks else _line(peaks, size)),
               "measured" if here and size in peaks else "estimated")
        for size in sizes
    ]  # fmt: skip


def _fits(fixed: int, peaks: Mapping[int, int], available: int) -> int:
    """The most images at once that fit into the memory."""
    if len(peaks) == 1:
        ((rows, peak),) = peaks.items()
        return max(0, int((available - fixed) * rows / max(peak, 1)))
    (few, low), (many, high) = sorted(peaks.items())
    slope = max((high - low) / (many - few), 1.0)
    return max(0, int((available - fixed - high) / slope) + many)


def _recomputed(
    ready: Prepared, execution: Execution, sizes: Sequence[int], fixed: int, available: int
) -> list[str]:
    """A note of what would fit with train.recompute; none where no network has blocks for it.

    sizes: images at once to measure. fixed: bytes that do not depend on them.
    """
    plan = replace(ready.plan, train=ready.plan.train.model_copy(update={"recompute": True}))
    try:
        state = ready.state(execution.memory_format, plan)
    except UserError:
        return []
    bench = Bench(state, ready.method, ready.stream, plan, execution)
    peaks = {size: bench.peak(size) for size in sizes}
    return [
        f"with train.recompute=true {_fits(fixed, peaks, available):,} images at once would fit, for up to a "
        "third more operations"
    ]


def _watching(
    ready: Prepared, bench: Bench, execution: Execution, expected: float, notes: list[str]
) -> float:
    """Seconds of all sheets, by one of them with a few samples."""
    watch, steps = ready.recipe.watch, getattr(ready.recipe.preview, "steps", 1)
    sheets = -(-ready.plan.steps // watch.every) + len(watch.epochs)
    few = min(watch.images, 4)
    if expected / ready.recipe.train.batch_size * few * steps > AFFORDED:
        notes.append("the time of sheets is not counted: one would take long here")
        return 0.0
    recipe = ready.recipe.with_changes({"watch.images": few})
    nets = {**{name: bench.state.nets[name] for name in ready.method.frozen}, **bench.state.averages.networks}
    model = replace(ready, stream=bench.stream).model(
        RunDirectory(Path()), recipe, nets, 0, execution.precision
    )
    began = time.perf_counter()
    watched_images(model, watched_conditions(recipe, bench.stream))
    return (time.perf_counter() - began) / few * watch.images * sheets
