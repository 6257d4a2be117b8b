"""Whether the schedules of learning rates and weights fit the steps that are planned, and the hours."""

from __future__ import annotations

import math
from collections.abc import Iterator

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.probes import NotTold
from safelight.checks.bench.subject import Subject
from safelight.engine.plan import Optim, Plan, Ramp

SECONDS = 2.0
FAST = True
NEAR = 0.9  # of the peak

UNFINISHED = Code(
    "schedule-unfinished",
    "error",
    "a schedule made for a longer run ends in its warm-up: the learning rate is never brought down, where "
    "most of the quality is won",
    "plan as many steps as will be run; the schedule follows train.steps",
)
NO_DECAY = Code(
    "decay-never-begins",
    "warning",
    "the learning rate stays at its peak to the end",
    'let hold end before the run, or state schedule = "constant"',
)
RAMP = Code(
    "ramp-unfinished",
    "warning",
    "a loss component never reaches the weight the recipe states",
    "make the ramp shorter than the run",
)
TOO_LONG = Code(
    "hours-exceeded",
    "error",
    "a run that is stopped before its end has a learning rate schedule that was never completed",
    "plan fewer steps, or allow more hours; `safelight plan` tells what fits",
)


def check(subject: Subject) -> Iterator[Finding]:
    """The plan alone; with check.hours also the time of a step."""
    plan = subject.plan
    for name, optim in plan.optim.items():
        yield from _learning_rate(name, optim, plan)
    for name, weight in plan.weights.items():
        if (
            isinstance(weight, Ramp)
            and weight.begin != weight.end
            and weight.after + weight.over > plan.steps
        ):
            yield RAMP.found(
                f"the weight of {name} is {weight.at(plan.steps - 1):.3g} at the end",
                f"{weight.end:.3g}, reached at step {weight.after + weight.over:,} of {plan.steps:,}",
            )
    if subject.hours is None:
        return
    if not subject.trial.records:
        raise NotTold("no step was made in time")
    seconds = subject.trial.seconds_an_image * plan.train.batch_size
    done = int(subject.hours * 3600 / seconds)
    if done < plan.steps:
        rates = [
            optim.lr_at(done, plan.steps, plan.epoch) / optim.lr for optim in plan.optim.values() if optim.lr
        ]
        schedule = ", ".join(dict.fromkeys(optim.schedule for optim in plan.optim.values()))
        where = f" of {schedule}" if schedule else ""
        yield TOO_LONG.found(
            f"{subject.hours:g} h are over at step {done:,} of {plan.steps:,} ({done / plan.steps:.0%}"
            f"{where}), the learning rate at {max(rates, default=0):.0%} of its peak",
            f"all steps, which take {seconds * plan.steps / 3600:.3g} h here",
        )


def _learning_rate(name: str, optim: Optim, plan: Plan) -> Iterator[Finding]:
    if not optim.lr:
        return
    steps = plan.steps
    looked = (*range(0, steps, max(1, steps // 1000)), steps - 1)
    shares = [optim.lr_at(step, steps, plan.epoch) / optim.lr for step in looked]
    last, peak = shares[-1], max(shares)
    if steps > 1 and peak < NEAR and last == peak:
        yield UNFINISHED.found(
            f"{name}: the learning rate is still rising at the last step, at {last:.0%} of optim.lr",
            f"a warm-up of {optim.warmup:,} steps is over before the {steps:,} of the run",
        )
    elif optim.schedule not in ("constant", "one-cycle") and last == 1 and steps > 1:
        unit = plan.epoch if optim.unit == "epoch" else 1
        wait = optim.interval if optim.schedule == "step" else 0
        begin = math.ceil(max(optim.warmup, optim.hold * unit) + wait * unit)
        if begin >= steps and (optim.schedule == "step" or optim.final != 1):
            yield NO_DECAY.found(
                f"{name}: schedule {optim.schedule} begins at step {begin:,}",
                f"before step {steps:,}, the last",
            )
