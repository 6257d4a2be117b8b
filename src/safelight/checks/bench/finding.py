"""What a check finds: a code, explained in docs/checks.md, what was measured, and how to fix it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """A fault, or something to know."""

    code: str
    severity: Severity
    measured: str
    expected: str
    why: str  # it matters
    fix: str
    declared: str = ""  # the reason for which the recipe expects it; it then stops nothing

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with the page that says more."""
        return {**asdict(self), "page": page(self.code)}


@dataclass(frozen=True)
class Code:
    """A kind of finding."""

    name: str
    severity: Severity
    what: str  # was observed
    why: str  # it matters
    fix: str

    def finding(self, measured: str, expected: str, severity: Severity | None = None) -> Finding:
        """A finding of this kind. severity: where it differs from that of the kind."""
        return Finding(self.name, severity or self.severity, measured, expected, self.why, self.fix)


@dataclass(frozen=True)
class Checked:
    """All findings, and what was skipped."""

    findings: Sequence[Finding]
    checks: Sequence[str]  # that ran to their end
    skipped: Mapping[str, str]  # by check: why it, or a part of it, did not run
    seconds: float
    fast: bool  # only what is quick enough for the start of every training
    planned: float | None = None  # seconds that the run would take here; None where no step was made

    @property
    def errors(self) -> list[Finding]:
        """Errors that the recipe does not declare."""
        return [finding for finding in self.findings if finding.severity == "error" and not finding.declared]

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
        """The same, with the reasons that a recipe gives for findings it expects, by code."""
        findings = [replace(finding, declared=expected.get(finding.code, "")) for finding in self.findings]
        return replace(self, findings=findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "findings": [finding.to_dict() for finding in self.findings],
            "errors": len(self.errors),
            "checks": list(self.checks),
            "skipped": dict(self.skipped),
            "seconds": round(self.seconds, 2),
            "fast": self.fast,
            "planned_seconds": self.planned,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Checked:
        """The inverse of `to_dict`. Raises LookupError or TypeError for anything else."""
        findings = [
            Finding(**{name: value for name, value in finding.items() if name != "page"})
            for finding in fields["findings"]
        ]
        return cls(
            findings,
            list(fields["checks"]),
            dict(fields["skipped"]),
            float(fields["seconds"]),
            bool(fields["fast"]),
            fields["planned_seconds"],
        )


def page(code: str) -> str:
    """The page that explains a code."""
    return f"docs/checks.md#{code}"


def ordered(findings: Sequence[Finding]) -> list[Finding]:
    """The most severe first, otherwise in the order given."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
