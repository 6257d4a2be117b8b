"""Precision, memory format and compilation of a training: stated, remembered for this model, or probed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from filelock import FileLock

from safelight.data.cache import cache_dir
from safelight.engine import precision
from safelight.engine.fingerprint import environment
from safelight.engine.loop import Job, train
from safelight.engine.precision import Execution
from safelight.loading.prepare import Prepared
from safelight.types import Tell

FEW = 2  # images of the first step of a probe
LONG = 300.0  # seconds of steps ahead from which it is tried whether compiling them pays
SLOW = 1.5  # seconds of a probe's step, roughly, above which it is made on fewer images


def choose_execution(ready: Prepared, tell: Tell = lambda line: None) -> Execution:
    """How to compute: as stated, as remembered for this model and machine, or as a probe finds.

    The first process decides for all.
    """
    train = ready.recipe.train
    named = {"auto": "off", "False": "off", "True": "inductor"}
    compile = named.get(str(train.compile), str(train.compile))
    layout = "contiguous" if train.shard else train.memory_format
    plain = precision.candidates(ready.device, train.precision, layout)
    options = [replace(option, compile=compile) for option in plain]
    if ready.cut:  # one process cannot measure what all of them hold together
        return options[-1]
    if len(options) == 1 and not _tries_to_compile(ready):
        return options[0]
    chosen = _chosen(options, ready, tell) if ready.world.first else None
    shared = ready.world.share(asdict(chosen) if chosen else None)
    assert isinstance(shared, dict)
    return Execution(**shared)


def _chosen(options: list[Execution], ready: Prepared, tell: Tell) -> Execution:
    path = cache_dir("probes") / f"{_probe_key(ready, options)}.json"
    with FileLock(path.with_suffix(".lock")):  # of several trainings that begin at once the first one decides
        try:
            return Execution(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return _probed(options, ready, tell, path)  # not there, or not ours


def _probed(options: list[Execution], ready: Prepared, tell: Tell, path: Path) -> Execution:
    tell("probing precision and memory format, a few seconds")
    clock = precision.clock_of(ready.device)
    chosen, fastest, rows = options[0], dict[str, float](), _probed_rows(ready, options[0], clock)
    if rows:
        chosen, fastest = precision.choose(options, lambda option: _one_step(ready, option, rows), clock)
        if _tries_to_compile(ready):
            chosen, more = compiled_if_it_pays(
                chosen, lambda option: _one_step(ready, option, rows), ready.plan.steps, clock
            )
            fastest |= more
    path.write_text(json.dumps(asdict(chosen)), encoding="utf-8")
    for name, seconds in fastest.items():
        tell(f"  {name}: {rows / max(seconds, 1e-9):.0f} images/s")
    return chosen


def _tries_to_compile(ready: Prepared) -> bool:
    train = ready.recipe.train
    return train.compile == "auto" and ready.device.type == "cuda" and not train.shard


def compiled_if_it_pays(
    eager: Execution,
    prepare: Callable[[Execution], Callable[[], object]],
    steps: int,
    clock: Callable[[], float],
) -> tuple[Execution, dict[str, float]]:
    """The same execution compiled, where it pays within a run of `steps`; and the fastest seconds of each.

    prepare: as of `precision.choose`. What cannot be compiled is not.
    """

    def timed(step: Callable[[], object]) -> float:
        began = clock()
        step()
        return clock() - began

    step = prepare(eager)
    first = timed(step)
    before = min(first, *(timed(step) for _ in range(precision.ROUNDS)))
    if before * steps < LONG:
        return eager, {}
    compiled = replace(eager, compile="inductor")
    try:
        step = prepare(compiled)
        compiling = timed(step) + timed(step)  # the second one knows what the first one changed
        after = min(timed(step) for _ in range(precision.ROUNDS))
    except Exception as error:  # of any of the compiler's parts: what it cannot compute it cannot win with
        return eager, {f"not compiled ({type(error).__name__})": math.inf}
    chosen = compiled if precision.pays(before, after, compiling, steps) else eager
    return chosen, {eager.words: before, compiled.words: after}


def _probed_rows(ready: Prepared, option: Execution, clock: Callable[[], float]) -> int:
    """Images of a probe's step: as many as of a training step, or fewer; 0 where even FEW take too long.

    Judged by a step on FEW.
    """
    train = ready.recipe.train
    rows = max(1, train.batch_size // (train.accumulate * ready.world.size))
    few = min(FEW, rows)
    step, began = _one_step(ready, option, few), clock()
    step()
    seconds = clock() - began
    while rows > few and seconds / few * rows > SLOW:
        rows = max(few, rows // 2)
    return rows if seconds < SLOW else 0


def _one_step(ready: Prepared, option: Execution, rows: int) -> Callable[[], object]:
    """A function that trains one step further each time, on a model of its own, alone, on so many images."""
    whole = ready.plan
    section = whole.train.model_copy(update={"accumulate": 1, "batch_size": rows, "ema_lengths": ()})
    plan = replace(whole, train=section)
    state = ready.state(option.memory_format, plan, option.compile)
    job = Job(
        ready.method,
        state,
        ready.stream.of(rows),
        plan_at=lambda step: replace(plan, steps=target),
        record=lambda record: None,
        boundary=lambda signals: None,
        autocast=precision.autocast(ready.device, option.precision),
        device=ready.device,
    )
    target = 0

    def step() -> None:
        nonlocal target
        target += 1
        train(job)
        if ready.device.type == "cuda":
            torch.cuda.synchronize(ready.device)

    return step


def _probe_key(ready: Prepared, options: list[Execution]) -> str:
    tree = ready.recipe.tree
    facts = [
        [asdict(option) for option in options],
        ready.recipe.train.compile,
        ready.plan.steps if ready.device.type == "cuda" else 0,  # so many have to pay for compiling
        {name: tree[name] for name in ("network", "method", "optim")},
        [ready.recipe.train.batch_size, ready.recipe.train.accumulate, list(ready.stream.spec.shape)],
        environment(ready.device, "auto", "auto", ready.world.size),
    ]
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=12).hexdigest()
