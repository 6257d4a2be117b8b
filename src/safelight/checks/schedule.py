"""Whether the schedules of learning rates and weights fit the steps that are planned, and the hours."""

from __future__ import annotations

import math
from collections.abc import Iterator

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.probes import NotApplicable
from safelight.checks.bench.subject import Subject
from safelight.engine.plan import Optim, Plan, Ramp

SECONDS = 2.0
FAST = True
NEAR = 0.9  # of the peak

UNFINISHED = Code(
    "schedule-unfinished",
    "error",
    "the learning rate is still rising at the last step, below 90 % of its peak",
    "the run ends during warm-up: the learning rate never decays, which is where most quality is gained",
    "set train.steps to what will be run, or shorten the warm-up; the schedule follows train.steps",
)
NO_DECAY = Code(
    "decay-never-begins",
    "warning",
    "the recipe states a schedule with a decay, but the learning rate of the last step is still the peak",
    "the learning rate stays at its peak to the end",
    'lower hold, or set schedule = "constant"',
)
RAMP = Code(
    "ramp-unfinished",
    "warning",
    "A ramp of a loss weight ends after the last step",
    "a loss component never reaches its weight in the recipe",
    "make the ramp shorter than the run",
)
TOO_LONG = Code(
    "hours-exceeded",
    "error",
    "the time of an image in six steps, times batch size and steps, exceeds check.hours",
    "a run stopped before its end never completes its learning rate schedule",
    "plan fewer steps, or allow more hours; `safelight plan` shows what fits",
)


def check(subject: Subject) -> Iterator[Finding]:
    """The plan alone; with check.hours also the time of a step."""
    plan = subject.plan
    for name, optim in plan.optim.items():
        yield from _learning_rate(name, optim, plan)
    for name, weight in plan.weights.items():
        if not isinstance(weight, Ramp) or weight.begin == weight.end:
            continue
        if (end := weight.after + weight.over) > plan.steps:
            yield RAMP.finding(
                f"the weight of {name} is {weight.at(plan.steps - 1):.3g} at the end",
                f"{weight.end:.3g}, reached at step {end:,} of {plan.steps:,}",
            )
    if subject.hours is None:
        return
    if not subject.trial.records:
        raise NotApplicable("no step was made in time")
    seconds = subject.trial.seconds_an_image * plan.train.batch_size
    done = int(subject.hours * 3600 / seconds)
    if done < plan.steps:
        rates = [
            optim.lr_at(done, plan.steps, plan.epoch) / optim.lr for optim in plan.optim.values() if optim.lr
        ]
        schedule = ", ".join(dict.fromkeys(optim.schedule for optim in plan.optim.values()))
        where = f" of {schedule}" if schedule else ""
        yield TOO_LONG.finding(
            f"{subject.hours:g} h end at step {done:,} of {plan.steps:,} ({done / plan.steps:.0%}"
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
        yield UNFINISHED.finding(
            f"{name}: the learning rate is still rising at the last step, at {last:.0%} of optim.lr",
            f"a warm-up of {optim.warmup:,} steps is over before the {steps:,} of the run",
        )
    elif optim.schedule not in ("constant", "one-cycle") and last == 1 and steps > 1:
        unit = plan.epoch if optim.unit == "epoch" else 1
        wait = optim.interval if optim.schedule == "step" else 0
        begin = math.ceil(max(optim.warmup, optim.hold * unit) + wait * unit)
        if begin >= steps and (optim.schedule == "step" or optim.final != 1):
            yield NO_DECAY.finding(
                f"{name}: schedule {optim.schedule} begins at step {begin:,}",
                f"before step {steps:,}, the last",
            )
