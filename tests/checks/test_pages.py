"""Every code has a page, and every page a code."""

from __future__ import annotations

from pathlib import Path

import pytest

from safelight.checks.bench.finding import Code, page
from safelight.checks.bench.runner import discovered, name_of

ROOT = Path(__file__).parents[2]
AUDIT = {"resume-settings", "resume-frozen", "resume-optimiser", "resume-weights"}
CODES = [(code, check) for check in discovered() for code in vars(check).values() if isinstance(code, Code)]


@pytest.mark.parametrize(("code", "check"), CODES, ids=lambda value: getattr(value, "name", ""))
def test_a_code_has_a_page_that_says_what_why_and_how_to_fix_it(code, check):
    text = (ROOT / page(code.name)).read_text(encoding="utf-8")
    assert text.startswith(f"# {code.name}\n\n{code.severity.capitalize()}, from `checks/")
    assert f"checks/{name_of(check).replace('-', '_')}.py" in text
    assert ("at the start of `safelight train`" in text) == check.FAST
    for part in ("**What.**", "**Why.**", "**How to fix.**"):
        assert part in text
    assert code.why[1:].rstrip(".") in text
    assert code.fix[1:].rstrip(".") in text


def test_there_are_no_other_pages_and_no_code_twice():
    names = [code.name for code, _ in CODES]
    assert len(names) == len(set(names))
    assert {path.stem for path in (ROOT / "docs" / "checks").glob("*.md")} == {*names, *AUDIT}


def test_the_audits_codes_are_those_of_its_source():
    source = (ROOT / "src" / "safelight" / "training" / "audit.py").read_text(encoding="utf-8")
    assert all(f'"{code}"' in source for code in AUDIT)


def test_a_check_says_what_it_looks_at_and_how_long_it_may():
    for check in discovered():
        assert check.__doc__
        assert check.SECONDS > 0
        assert isinstance(check.FAST, bool)
    assert name_of(discovered()[0]) == "runs"
