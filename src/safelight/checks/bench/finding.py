"""What a check finds: a code with a page in docs/checks/, what was measured, and the mend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One fault, or something to know."""

    code: str
    severity: Severity
    measured: str
    expected: str
    why: str  # it matters
    mend: str
    declared: str = ""  # the reason for which the recipe expects it; it then stops nothing

    def plain(self) -> dict[str, Any]:
        """In plain values, with the page that says more."""
        return {**asdict(self), "page": page(self.code)}


@dataclass(frozen=True)
class Code:
    """A kind of finding."""

    name: str
    severity: Severity
    why: str
    mend: str

    def found(
        self, measured: str, expected: str, *, severity: Severity | None = None, mend: str | None = None
    ) -> Finding:
        """A finding of this kind. severity, mend: where this one differs from others of its kind."""
        return Finding(self.name, severity or self.severity, measured, expected, self.why, mend or self.mend)


@dataclass(frozen=True)
class Checked:
    """All that was found, and what was not looked at."""

    findings: Sequence[Finding]
    checks: Sequence[str]  # that ran to their end
    skipped: Mapping[str, str]  # by check: why it, or a part of it, did not run
    seconds: float
    fast: bool  # only what is quick enough for the start of every training
    planned: float | None = None  # seconds that the run would take here; None where no step was made

    @property
    def errors(self) -> list[Finding]:
        """What has to be mended, or declared, before hours are spent."""
        return [one for one in self.findings if one.severity == "error" and not one.declared]

    @property
    def summary(self) -> str:
        """Number of findings of each severity."""
        undeclared = [finding.severity for finding in self.findings if not finding.declared]
        counted = [f"{count} {severity}{'' if count == 1 else 's'}" for severity in SEVERITIES
                   if (count := undeclared.count(severity))]  # fmt: skip
        declared = len(self.findings) - len(undeclared)
        counted += [f"{declared} declared"] if declared else []
        return ", ".join(counted) or "no fault found"

    def declaring(self, expected: Mapping[str, str]) -> Checked:
        """With the reasons a recipe gives for findings it expects, by code."""
        return replace(
            self, findings=[replace(one, declared=expected.get(one.code, "")) for one in self.findings]
        )

    def plain(self) -> dict[str, Any]:
        """In plain values."""
        return {
            "findings": [one.plain() for one in self.findings],
            "errors": len(self.errors),
            "checks": list(self.checks),
            "skipped": dict(self.skipped),
            "seconds": round(self.seconds, 2),
            "fast": self.fast,
            "planned_seconds": self.planned,
        }

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Checked:
        """What `plain` made. Raises LookupError or TypeError for anything else."""
        own = [{name: value for name, value in one.items() if name != "page"} for one in fields["findings"]]
        return cls(
            [Finding(**one) for one in own],
            list(fields["checks"]),
            dict(fields["skipped"]),
            float(fields["seconds"]),
            bool(fields["fast"]),
            fields["planned_seconds"],
        )


def page(code: str) -> str:
    """Where a code is explained."""
    return f"docs/checks/{code}.md"


def ordered(findings: Sequence[Finding]) -> list[Finding]:
    """The gravest first, otherwise as they were found."""
    return sorted(findings, key=lambda one: SEVERITIES.index(one.severity))
