"""Discover the checks and run them, each within its budget."""

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
from safelight.checks.bench.probes import NotApplicable, OutOfTime
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
    """The checks in the order of their names; the one that tries whether training runs at all comes first."""
    names = [info.name for info in pkgutil.iter_modules(checks.__path__) if not info.ispkg]
    modules = [import_module(f"{checks.__name__}.{name}") for name in names]
    return tuple(sorted(modules, key=lambda module: not getattr(module, "FIRST", False)))


def name_of(check: Check) -> str:
    """A check's name: that of its file."""
    return check.__name__.rpartition(".")[2].replace("_", "-")


def run(
    subject: Subject,
    fast: bool = False,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Checked:
    """Run the checks. fast: only those that run at the start of a training.

    A check that cannot measure this method, or has no time left, is reported as skipped. If the method cannot
    make a step, the error is a finding, and the other checks are skipped.
    """
    chosen = [check for check in discovered() if check.FAST or not fast]
    findings: list[Finding] = []
    skipped: dict[str, str] = {}
    done: list[str] = []
    began = time.perf_counter()
    for number, check in enumerate(chosen):
        progress(name_of(check), number, len(chosen))
        subject.clock.begin(check.SECONDS)
        reason = _run(check, subject, findings)
        if reason:
            skipped[name_of(check)] = reason
        else:
            done.append(name_of(check))
        if getattr(check, "FIRST", False) and any(finding.severity == "error" for finding in findings):
            skipped |= dict.fromkeys(map(name_of, chosen[number + 1 :]), "no step can be made")
            break
    progress("checked", len(chosen), len(chosen))
    return Checked(ordered(findings), done, skipped, time.perf_counter() - began, fast, planned(subject))


def planned(subject: Subject) -> float | None:
    """Seconds the run would take here, by the speed of the trial; None where there was none."""
    trial = subject.finished_trial
    if trial is None or not trial.seconds_an_image:
        return None
    return trial.seconds_an_image * subject.plan.train.batch_size * subject.plan.steps


def _run(check: Check, subject: Subject, findings: list[Finding]) -> str:
    """Run a check; its findings are added as it makes them. Returns why it ended early, or ""."""
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            findings.extend(check.check(subject))  # lazily: findings before an early end are kept
    except OutOfTime as late:
        return f"out of time: {late}"
    except NotApplicable as reason:
        return str(reason)
    except UserError:
        raise
    except Exception as error:  # a probe calls networks as training never would: no reason not to train
        return f"cannot run here ({type(error).__name__}: {error})".split("\n")[0]
    return ""
