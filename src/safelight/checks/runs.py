"""Whether training runs at all: a few steps, with finite values."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.probes import NotApplicable
from safelight.checks.bench.subject import Subject
from safelight.config import UserError

SECONDS = 30.0
FAST = True
FIRST = True

FAILS = Code(
    "step-fails",
    "error",
    "the engine makes six training steps on small batches, at the peak learning rate, and the loss or a "
    "network raises an error",
    "the run would stop at its first step",
    "fix the loss or the network; the error names the place",
)
NOT_FINITE = Code(
    "not-finite",
    "error",
    "in the first six steps a loss component, gradient norm or statistic is infinite or not a number",
    "a step whose gradient is not finite is skipped, and nothing is learned from it",
    "look for a division by zero, a logarithm of 0 or an exponential without bound; lower optim.lr",
)


def check(subject: Subject) -> Iterator[Finding]:
    """A few steps at the peak learning rate."""
    try:
        records = subject.trial.records
    except UserError:
        raise
    except Exception as error:
        yield FAILS.finding(f"{type(error).__name__}: {error}".split("\n")[0], "a training step")
        return
    if not records:
        raise NotApplicable("no step was made in time")
    for record in records:
        wrong = [name for name, value in record.scalars.items() if not bool(torch.isfinite(value))]
        if wrong:
            yield NOT_FINITE.finding(f"{', '.join(wrong)} in step {record.step}", "finite numbers")
            return
