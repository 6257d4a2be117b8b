"""The [check] section of a recipe."""

from __future__ import annotations

from pydantic import Field, field_validator

from safelight.config import Section


class CheckConfig(Section):
    """What is checked before training."""

    before_training: bool = Field(True, description="the quick checks at the start of `safelight train`")
    hours: float | None = Field(
        None, gt=0, description="how long the run may take here: a schedule that needs longer is found"
    )
    expected_findings: dict[str, str] = Field(
        {}, description="codes of findings that are meant to be there, each with the reason"
    )

    @field_validator("expected_findings")
    @classmethod
    def _reasons(cls, expected: dict[str, str]) -> dict[str, str]:
        for code, reason in expected.items():
            if not reason.strip():
                raise ValueError(f"{code}: state the reason for which it is expected")
        return expected
