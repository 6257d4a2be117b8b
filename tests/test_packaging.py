"""What is said of the package in several places is the same in all of them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import safelight
from command_line import run

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOWEST = {re.split(r">=", line)[0]: re.search(r">=([\d.]+)", line)[1] for line in PROJECT["dependencies"]}


def test_the_version_is_one():
    version = PROJECT["version"]
    assert safelight.__version__ == version
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f'version: "{version}"\n' in (ROOT / "conda-forge/recipe.yaml").read_text()
    assert re.search(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == version


def test_lower_bounds_are_those_of_the_project():
    text = (ROOT / "constraints-lowest.txt").read_text()
    held = dict(re.findall(r"^([\w-]+)==([\d.]+)$", text, re.MULTILINE))
    assert held.keys() == LOWEST.keys() - {"torch"}
    for name, version in held.items():
        assert (version + ".0").startswith(LOWEST[name]), name
        assert set(version.removeprefix(LOWEST[name])) <= {".", "0"}


def test_the_conda_recipe_has_the_projects_dependencies():
    others = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
    text = (ROOT / "conda-forge/recipe.yaml").read_text()
    listed = dict(re.findall(r"^    - ([\w-]+) >=([\d.]+)", text, re.MULTILINE))
    assert {others.get(name, name): version for name, version in listed.items() if name != "python"} == LOWEST


def test_docs_name_every_extra_and_every_dependency():
    install = (ROOT / "docs/install.md").read_text()
    assert all(f"`{extra}`" in install for extra in PROJECT["optional-dependencies"])
    reasons = (ROOT / "docs/dependencies.md").read_text()
    assert all(re.search(rf"^\| {name}\b", reasons, re.MULTILINE) for name in LOWEST)


def test_help_all_shows_every_command(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "--help-all")
    assert code == 0
    for name in ("train", "data inspect", "explain", "export-metrics"):
        assert f"Usage: safelight {name} " in out
