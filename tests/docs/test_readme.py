"""The README says what is so: its commands, and those in --help, are commands; its Python runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from safelight.cli import COMMANDS as GROUPS
from safelight.cli import load as load_command
from safelight.cli.options import changes_of
from safelight.engine.distributed import World
from safelight.recipe import load
from safelight.recipes import names
from safelight.training.progress import Show
from safelight.training.start import begin

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"```\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
COMMANDS = [line.partition(" #")[0].rpartition("bin/")[2].strip() for line in LINES
            if re.match(r"(python3 .*bin/)?safelight ", line)]  # fmt: skip
NAMES = [name for _, commands in GROUPS.values() for name in commands]
HELP = [line for command in map(load_command, NAMES)
        for line in (command.epilog or "").splitlines() if line.startswith("safelight ")]  # fmt: skip
SMALL = {"network.width": 8, "network.multipliers": [1], "network.middle": 1, "train.steps": 3}
PLAIN = {"train.batch_size": 4, "train.precision": "fp32", "train.memory_format": "contiguous"}


def parsed(command: str) -> Any:
    """A command line as its command understands it, not run. Raises what a wrong one raises."""
    _, name, *arguments = shlex.split(command)
    at: Any = load_command(name)
    while hasattr(at, "commands"):
        name, *arguments = arguments
        at = at.commands[name]
    return at.make_context(name, arguments)


def test_every_command_is_shown_and_help_gives_examples_of_its_own():
    shown = {command.split()[1] for command in COMMANDS}
    assert shown == set(NAMES)
    epilogs = {name: load_command(name).epilog for name in NAMES}
    assert all(f"safelight {name} " in epilog for name, epilog in epilogs.items() if epilog)
    assert len(HELP) > 20


@pytest.mark.parametrize("command", COMMANDS + HELP)
def test_a_command_is_one(command):
    context = parsed(command)
    recipe = context.params.get("recipe") or context.params.get("source")
    if recipe == "my.toml":  # made by the command before it, from this one
        assert "safelight new my.toml --from fashion" in COMMANDS
        recipe = "fashion"
    if (
        recipe == "photos/"
    ):  # a folder of the reader's, for which a recipe is made: tests/planning/test_first_look.py
        recipe = "digits"
    if recipe:
        load(recipe, changes_of(context.params.get("changes")))
    elif context.params.get("changes"):
        load("digits", changes_of(context.params["changes"]))


def test_a_wrong_command_would_be_noticed():
    with pytest.raises(StopIteration):
        parsed("safelight trian digits")
    with pytest.raises(Exception, match="No such option"):
        parsed("safelight train digits --nmae first")


def test_its_python_runs_and_a_run_holds_what_it_lists(tmp_path, monkeypatch):
    begin(load("digits", SMALL | PLAIN), tmp_path / "runs", "digits-1", World(), Show())
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    namespace: dict[str, object] = {}
    exec(block, namespace)
    assert namespace["samples"].images.shape == (16, 28, 28, 1)
    assert (namespace["samples"].given["label"] == 3).all()
    assert len(namespace["run"].metrics("loss")["raw/mse"]) == 3
    assert (tmp_path / "threes.png").exists()
    listing = re.search(r"runs/digits-1/\n(.*?)```", TEXT, re.DOTALL)[1]
    left_out = [path.name for path in (tmp_path / "runs" / "digits-1").iterdir() if path.name not in listing]
    assert left_out == []


def test_its_tree_is_the_tree():
    tree = TEXT[TEXT.index("src/safelight/\n") :]
    package = ROOT / "src" / "safelight"
    folders = {path.parent.relative_to(package).parts[0] for path in package.glob("*/__init__.py")}
    listed = set(re.findall(r"^  (\w+)/", tree, re.MULTILINE))
    assert listed == folders


def test_the_files_it_points_to_are_there():
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (ROOT / target).exists(), target
    assert {"digits", "fashion"} <= set(names())
