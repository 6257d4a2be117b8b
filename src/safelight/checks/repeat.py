"""Whether the same step gives the same bits twice, on the device at hand."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace

import torch

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.subject import Subject
from safelight.engine.fingerprint import WeightFingerprint, as_hex
from safelight.engine.loop import Job, train

SECONDS = 8.0
FAST = False
STEPS = 2

DIFFERS = Code(
    "not-deterministic",
    "error",
    "two steps from the same state, twice, give different weights",
    "a run cannot be resumed, replayed or forked to the same weights",
    "draw from moment.draw instead of torch.rand, and keep no state outside memory()",
)
NO_KERNEL = Code(
    "nondeterministic-operator",
    "warning",
    "PyTorch warns in two steps under torch.use_deterministic_algorithms. On a CPU it rarely does: check "
    "with the train.device of the run.",
    "an operator has no deterministic backward on this device, so replays can differ",
    "resize with nearest and a convolution, not bilinear; warp by matrix products, not grid_sample",
)


def check(subject: Subject) -> Iterator[Finding]:
    """Two steps from the state after the trial, and the same two again."""
    state, plan = subject.trial.state, subject.trial.plan
    before = {
        group: {name: value.clone() for name, value in values.items()}
        for group, values in state.groups().items()
    }
    begin = state.step
    subject.clock.afford(2 * STEPS * subject.rows * subject.trial.seconds_an_image, "two steps, twice")

    def run() -> str:
        state.load(before, begin)
        for net in state.nets.values():
            net.train()
        for name in subject.method.frozen:
            state.nets[name].eval()
        train(
            Job(
                subject.method,
                state,
                subject.streams(subject.rows),
                lambda step: replace(plan, steps=begin + STEPS),
                lambda record: None,
                lambda signals: None,
                autocast=subject.autocast,
                device=subject.device,
            )
        )
        return as_hex(int(WeightFingerprint(state.nets)()))

    was = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("always")
            torch.use_deterministic_algorithms(True, warn_only=True)
            first = run()
        torch.use_deterministic_algorithms(was[0], warn_only=was[1])
        second = run()
    finally:
        torch.use_deterministic_algorithms(was[0], warn_only=was[1])
        state.load(before, begin)
    messages = (str(warning.message) for warning in raised)
    lines = {message.split(". ")[0] for message in messages if "deterministic" in message}
    for line in sorted(lines):
        yield NO_KERNEL.finding(f"{line} ({subject.device})", "a deterministic implementation")
    if first != second:
        yield DIFFERS.finding(
            f"weights {first} and then {second} after the same {STEPS} steps", "equal fingerprints"
        )
