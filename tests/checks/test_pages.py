"""Every code has a section of the page, and every section a code."""

from __future__ import annotations

import re
from pathlib import Path

from safelight import keys
from safelight.checks.bench import resume
from safelight.checks.bench.finding import Code, page
from safelight.checks.bench.runner import discovered, name_of

ROOT = Path(__file__).parents[2]
CODES = [code for check in discovered() for code in vars(check).values() if isinstance(code, Code)]


def test_the_page_is_made_from_the_checks():
    """Otherwise: python -m safelight.keys checks > docs/checks.md."""
    assert (ROOT / "docs" / "checks.md").read_text(encoding="utf-8") == keys.checks_page()


def test_every_code_has_its_section_with_what_why_and_how_to_fix_it_and_none_is_there_twice():
    text = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
    names = [code.name for code in (*CODES, *resume.CODES)]
    assert sorted(names) == re.findall(r"^## (.*)$", text, re.MULTILINE)
    for code in (*CODES, *resume.CODES):
        assert page(code.name) == f"docs/checks.md#{code.name}"
        section = text.partition(f"\n## {code.name}\n")[2].partition("\n## ")[0]
        for title, words in (("What", code.what), ("Why", code.why), ("How to fix", code.fix)):
            assert f"**{title}.** {words[0].upper()}{words[1:]}" in section


def test_the_audits_codes_are_those_of_its_source():
    source = (ROOT / "src" / "safelight" / "training" / "audit.py").read_text(encoding="utf-8")
    assert set(re.findall(r'"(resume-\w+)"', source)) == {code.name for code in resume.CODES}


def test_a_check_says_what_it_looks_at_and_how_long_it_may():
    for check in discovered():
        assert check.__doc__
        assert check.SECONDS > 0
        assert isinstance(check.FAST, bool)
    assert name_of(discovered()[0]) == "runs"
