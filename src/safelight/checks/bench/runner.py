"""Finding the checks and running them, each within its budget."""

from __future__ import annotations

import pkgutil
import time
import warnings
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from typing import Protocol

import torch

from safelight import checks
from safelight.checks.bench.finding import Checked, Finding, ordered
from safelight.checks.bench.probes import NotTold, OutOfTime
from safelight.checks.bench.subject import Subject
from safelight.config import UserError


class Check(Protocol):
    """A module of checks/."""

    __name__: str
    SECONDS: float  # it may take
    FAST: bool  # runs at the start of every training

    def check(self, subject: Subject) -> Iterable[Finding]: ...


@cache
def discovered() -> tuple[Check, ...]:
    """The checks, in the order of their names; those that try whether anything runs at all come first."""
    names = [info.name for info in pkgutil.iter_modules(checks.__path__) if not info.ispkg]
    found = [import_module(f"{checks.__name__}.{name}") for name in names]
    return tuple(sorted(found, key=lambda one: not getattr(one, "FIRST", False)))


def name_of(check: Check) -> str:
    """A check's own name: that of its file."""
    return check.__name__.rpartition(".")[2].replace("_", "-")


def run(
    subject: Subject,
    fast: bool = False,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Checked:
    """Run the checks. fast: only those that a training can begin with.

    A check that cannot look at this method from outside, or has no time left, is told as skipped. If the
    method cannot even make a step, the error is a finding, and nothing else is asked of it.
    """
    chosen = [one for one in discovered() if one.FAST or not fast]
    findings: list[Finding] = []
    skipped: dict[str, str] = {}
    done: list[str] = []
    began = time.perf_counter()
    for number, one in enumerate(chosen):
        progress(name_of(one), number, len(chosen))
        subject.clock.begin(one.SECONDS)
        reason = _one(one, subject, findings)
        if reason:
            skipped[name_of(one)] = reason
        else:
            done.append(name_of(one))
        if getattr(one, "FIRST", False) and any(found.severity == "error" for found in findings):
            skipped |= dict.fromkeys(map(name_of, chosen[number + 1 :]), "no step can be made")
            break
    progress("checked", len(chosen), len(chosen))
    return Checked(ordered(findings), done, skipped, time.perf_counter() - began, fast, planned(subject))


def planned(subject: Subject) -> float | None:
    """Seconds the run would take here, as the trial went; None where it did not."""
    tried = subject.tried
    if tried is None or not tried.seconds_an_image:
        return None
    return tried.seconds_an_image * subject.plan.train.batch_size * subject.plan.steps


def _one(check: Check, subject: Subject, findings: list[Finding]) -> str:
    """Run one check; its findings are added as it makes them. Returns why it ended early, or ""."""
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            findings.extend(check.check(subject))  # one by one: what was found before an early end is kept
    except OutOfTime as late:
        return f"for time: {late}"
    except NotTold as unsaid:
        return str(unsaid)
    except UserError:
        raise
    except Exception as error:  # a probe asks what training never would: no reason not to train
        return f"cannot be asked ({type(error).__name__}: {error})".split("\n")[0]
    return ""
