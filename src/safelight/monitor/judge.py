"""From signals to verdicts: one begins when its signal has lasted, and ends when it has been gone as long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from safelight.monitor.config import Monitor, Name
from safelight.monitor.verdicts import VERDICTS, Symptom, Verdict
from safelight.monitor.vitals import Vitals
from safelight.store.metrics import MetricsRow

WATCHES = 2  # in a row, that make a signal from samples a verdict


@dataclass(frozen=True)
class Change:
    """A verdict begins or ends."""

    name: Name
    begins: bool
    step: int  # steps behind the run
    since: int  # when its signal first showed, or began to be gone
    finding: Symptom | None = None  # of one that begins


def watched(row: MetricsRow) -> bool:
    """Whether samples or held-out images were looked at after a step."""
    return any(name.startswith(("monitor/", "held_out/")) for name in row.extra)


@dataclass
class VerdictState:
    """How one verdict stands."""

    holds: bool = False
    since: int | None = None  # its signal contradicts `holds` from here on
    watches: int = 0  # for how many watches


@dataclass
class HealthMonitor:
    """All verdicts on a run, by its rows in order. settings_at: [monitor] as in force at a step."""

    vitals: Vitals
    settings_at: Callable[[int], Monitor]
    courses: dict[Name, VerdictState] = field(
        default_factory=lambda: {name: VerdictState() for name in VERDICTS}
    )

    def add(self, row: MetricsRow) -> list[Change]:
        """Take the next row. Returns the verdicts that begin or end with it."""
        settings = self.settings_at(row.step)
        self.vitals.add(row, settings.spike)
        looked = watched(row)
        changes = (self._follow(name, rule, settings, looked) for name, rule in VERDICTS.items())
        return [change for change in changes if change]

    @property
    def holding(self) -> list[Name]:
        """The verdicts in force."""
        return [name for name, course in self.courses.items() if course.holds]

    def calm(self, name: Name) -> bool:
        """Whether a verdict neither holds nor builds up."""
        course = self.courses[name]
        return not course.holds and course.since is None

    @property
    def troubled_since(self) -> int | None:
        """The first step of what is building up to a verdict, or is one; None in health."""
        building = [
            course.since for course in self.courses.values() if not course.holds and course.since is not None
        ]
        return min(building, default=None)

    def _follow(self, name: Name, rule: Verdict, settings: Monitor, watched: bool) -> Change | None:
        v, course = self.vitals, self.courses[name]
        if rule.watched and not watched:
            return None
        early = v.step <= max(settings.warmup_steps(v.steps), rule.mature * v.steps)
        explained = not course.holds and any(self.courses[cause].holds for cause in rule.behind)
        muted = early or explained or name in settings.ignore
        finding = None if muted else rule.judge(v, settings, course.holds)
        if (finding is not None) == course.holds:
            course.since, course.watches = None, 0
            return None
        if course.since is None:
            course.since = v.step
        course.watches += 1
        lasted = v.step - course.since >= settings.patience_steps(v.steps)
        if not (course.watches >= WATCHES if rule.watched else lasted):
            return None
        since, course.holds = course.since, not course.holds
        course.since, course.watches = None, 0
        return Change(name, course.holds, v.step, since, finding)
