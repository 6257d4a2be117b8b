"""The [check] section of a recipe."""

from __future__ import annotations

from pydantic import Field, field_validator

from safelight.config import Section


class CheckConfig(Section):
    """[check]: checks before training."""

    before_training: bool = True
    """Run the quick checks when `safelight train` starts."""
    hours: float | None = Field(None, gt=0)
    """Hours the run may take on this machine; a schedule that needs longer is reported."""
    expected_findings: dict[str, str] = Field({})
    """Codes of intended findings, each with its reason."""

    @field_validator("expected_findings")
    @classmethod
    def _reasons(cls, expected: dict[str, str]) -> dict[str, str]:
        for code, reason in expected.items():
            if not reason.strip():
                raise ValueError(f"{code}: state the reason for which it is expected")
        return expected
