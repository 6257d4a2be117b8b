"""Whether weights to begin with, init.from, fit the networks at all."""

from __future__ import annotations

from collections.abc import Iterator

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.subject import Subject

SECONDS = 1.0
FAST = True

NOTHING = Code(
    "nothing-taken",
    "warning",
    "a recipe has init.from, and no tensor of that source fits one of its networks",
    "the run begins as it would without init.from: no tensor of the source has a name and a shape that fit",
    "name a run of the same networks, or look at init.take and init.skip",
)


def check(subject: Subject) -> Iterator[Finding]:
    """What became of the weights when the trial's networks were built."""
    subject.trial  # noqa: B018
    if source := subject.not_taken():
        yield NOTHING.finding(f"nothing of {source} was taken", "at least one tensor")
