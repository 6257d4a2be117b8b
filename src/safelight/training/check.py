"""A recipe checked before it is trained; what was found is remembered for the same recipe, data and code."""

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


LENGTH = {  # findings that say that a run is short, which a trial is on purpose
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
    """What the checks find, with the findings that the recipe expects marked as such.

    fast: only what is quick enough for the start of a training. again: look anew, although the same was
    looked at before.
    """
    path = cache_dir("checks") / f"{_key(ready, execution, fast)}.json"
    found = None if again else _remembered(path)
    if found is None:
        found = run(subject(ready, execution), fast, progress)
        path.write_text(json.dumps(found.plain()), encoding="utf-8")
    return found.declaring(ready.recipe.check.expected_findings)


def before_training(ready: Prepared, execution: Execution, tell: Tell, warn: Tell) -> Checked | None:
    """The quick checks; None where the recipe leaves them out. Raises UserError, on every process alike.

    tell: what was looked at. warn: everything above a note that the recipe does not expect. A run that is
    over in half a minute is not refused, as trying something out is no waste: its errors are warnings, and
    that it is short is a note.
    """
    if not ready.recipe.check.before_training:
        return None
    found = check(ready, execution, fast=True) if ready.world.first else None
    if found and found.planned is not None and found.planned < SHORT:
        found = replace(found, findings=ordered([_of_a_trial(one) for one in found.findings]))
    if problem := ready.world.share(refusal(found) if found else ""):
        raise UserError(str(problem))
    if found:
        for one in found.findings:
            if one.severity != "note" and not one.declared:
                warn(f"{one.code}: {one.measured}; expected {one.expected}")
        tell(f"checked in {found.seconds:.1f} s: {found.summary}")
    return found


def _of_a_trial(finding: Finding) -> Finding:
    """A finding as a run is told that is over in half a minute."""
    if finding.code in LENGTH:
        return replace(finding, severity="note")
    return replace(finding, severity="warning") if finding.severity == "error" else finding


def refusal(checked: Checked) -> str:
    """Why a recipe is not trained, in one line; "" where no error was found that it does not expect."""
    if not checked.errors:
        return ""
    first = checked.errors[0]
    more = f" (and {len(checked.errors) - 1} more: safelight check)" if len(checked.errors) > 1 else ""
    return (
        f"{first.code}: {first.measured}; expected {first.expected}{more}. {first.mend}; or state why it is "
        f'meant, check.expected_findings.{first.code}="...", or train with --no-check'
    )


def subject(ready: Prepared, execution: Execution) -> Subject:
    """What the checks look at."""
    streams: dict[int, Stream] = {}
    images = ready.stream.with_features(None)  # which belong to images that checks change

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
    )


def _remembered(path: Any) -> Checked | None:
    try:
        return Checked.of(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, LookupError, TypeError):
        return None  # not there, or not of this version


def _key(ready: Prepared, execution: Execution, fast: bool) -> str:
    """Of everything a finding depends on."""
    tree = {name: own for name, own in ready.recipe.tree.items() if name not in NO_MATTER}
    facts = [
        flatten(tree),
        ready.recipe.check.hours,
        ready.pack.fingerprint,
        code_facts(ready.recipe),
        fingerprint.environment(ready.device, execution.precision, execution.memory_format, 1),
        fast,
    ]
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=12).hexdigest()
