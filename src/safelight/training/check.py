"""Check a recipe before it is trained; findings are cached for the same recipe, data and code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from safelight.checks.bench.finding import Checked, Finding, ordered
from safelight.checks.bench.runner import run
from safelight.checks.bench.subject import Subject
from safelight.config import UserError, flatten
from safelight.data.cache import cache_dir
from safelight.data.stream import Stream
from safelight.engine import fingerprint, precision
from safelight.engine.precision import Execution
from safelight.loading.prepare import Prepared
from safelight.loading.recorded import code_facts
from safelight.types import Tell

Progress = Callable[[str, int, int], None]
SHORT = 30.0  # seconds of a run that is not worth refusing
LENGTH = {  # findings that a run is short, which a trial is on purpose
    "schedule-unfinished", "decay-never-begins", "ramp-unfinished", "data-not-seen", "average-too-long"
}  # fmt: skip
NO_MATTER = ("about", "check", "watch", "checkpoint", "evaluate")  # sections that change no finding


def check(
    ready: Prepared,
    execution: Execution,
    fast: bool = False,
    again: bool = False,
    progress: Progress = lambda what, done, total: None,
) -> Checked:
    """The findings of the checks, those that the recipe expects marked as such.

    fast: only what is quick enough for the start of a training. again: ignore the cache.
    """
    path = cache_dir("checks") / f"{_key(ready, execution, fast)}.json"
    checked = None if again else _cached(path)
    if checked is None:
        checked = run(subject(ready, execution), fast, progress)
        path.write_text(json.dumps(checked.to_dict()), encoding="utf-8")
    return checked.declaring(ready.recipe.check.expected_findings)


def before_training(ready: Prepared, execution: Execution, tell: Tell, warn: Tell) -> Checked | None:
    """The quick checks; None where the recipe leaves them out. Raises UserError, on every process alike.

    tell: takes a summary. warn: takes everything above a note that the recipe does not expect. A run that is
    over in half a minute is not refused: its errors are warnings, and that it is short is a note.
    """
    if not ready.recipe.check.before_training:
        return None
    checked = check(ready, execution, fast=True) if ready.world.first else None
    if checked and checked.planned is not None and checked.planned < SHORT:
        checked = replace(checked, findings=ordered([_of_a_trial(each) for each in checked.findings]))
    if problem := ready.world.share(refusal(checked) if checked else ""):
        raise UserError(str(problem))
    if checked:
        for finding in checked.findings:
            if finding.severity != "note" and not finding.declared:
                warn(f"{finding.code}: {finding.measured}; expected {finding.expected}")
        tell(f"checked in {checked.seconds:.1f} s: {checked.summary}")
    return checked


def _of_a_trial(finding: Finding) -> Finding:
    """A finding about a run that is over in half a minute."""
    if finding.code in LENGTH:
        return replace(finding, severity="note")
    return replace(finding, severity="warning") if finding.severity == "error" else finding


def refusal(checked: Checked) -> str:
    """Why a recipe is not trained, in one line; "" where all errors are declared."""
    if not checked.errors:
        return ""
    first = checked.errors[0]
    more = f" (and {len(checked.errors) - 1} more: safelight check)" if len(checked.errors) > 1 else ""
    return (
        f"{first.code}: {first.measured}; expected {first.expected}{more}. {first.fix}; or declare it with a "
        f'reason, check.expected_findings.{first.code}="...", or train with --no-check'
    )


def subject(ready: Prepared, execution: Execution) -> Subject:
    """The subject of the checks."""
    streams: dict[int, Stream] = {}
    images = ready.stream.alone.with_features(None)  # which belong to images that checks change

    def stream(batch_size: int) -> Stream:
        if batch_size not in streams:
            streams[batch_size] = images.of(batch_size)
        return streams[batch_size]

    return Subject(
        ready.method,
        lambda plan: ready.state(execution.memory_format, plan),
        ready.stream.spec,
        ready.plan,
        ready.recipe.sample,
        stream,
        execution.precision,
        ready.device,
        precision.autocast(ready.device, execution.precision),
        ready.recipe.check.hours,
        not_taken=lambda: ready.transfer.source if ready.transfer and ready.transfer.nothing else "",
    )


def _cached(path: Any) -> Checked | None:
    try:
        return Checked.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, LookupError, TypeError):
        return None  # not there, or not of this version


def _key(ready: Prepared, execution: Execution, fast: bool) -> str:
    """A digest of everything a finding depends on."""
    tree = {name: value for name, value in ready.recipe.tree.items() if name not in NO_MATTER}
    facts = [
        flatten(tree),
        ready.recipe.check.hours,
        sorted(product.digest for product in ready.products.values()),
        ready.pack.fingerprint,
        code_facts(ready.recipe),
        fingerprint.environment(ready.device, execution.precision, execution.memory_format, 1),
        fast,
    ]
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=12).hexdigest()
