"""The help: its summary is that of the commands, its words are plain, and old spellings still work."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from command_line import run
from safelight.cli import COMMANDS, load, renamed

SUMMARIES = {name: summary for _, commands in COMMANDS.values() for name, summary in commands.items()}
COMMAND = {}  # by name; those of groups under "data pack"
for title in SUMMARIES:
    parts = getattr(load(title), "commands", None)
    COMMAND |= {f"{title} {name}": part for name, part in parts.items()} if parts else {title: load(title)}
RIDDLES = re.compile(r"\b(tells?|own|asked|told|lies|else|mend)\b")


@pytest.mark.parametrize("name", SUMMARIES)
def test_the_summary_is_the_first_line_of_the_docstring(name):
    assert load(name).help.partition("\n")[0] == SUMMARIES[name]
    assert load(name).name == name


@pytest.mark.parametrize("name", COMMAND)
def test_help_has_plain_words(name):
    command = COMMAND[name]
    texts = [command.help, command.epilog or "", *(option.help or "" for option in command.params)]
    assert all(not RIDDLES.search(text.lower()) for text in texts)
    assert all(text[0].isupper() or text.startswith(("--", "pick")) for text in texts if text)


@pytest.mark.parametrize("name", COMMAND)
def test_an_option_says_what_it_is_and_its_default(name):
    for option in COMMAND[name].params:
        assert option.help.endswith("."), option.name
        if option.param_type_name == "option" and not option.required and option.default is None:
            assert "Default: " in option.help, option.name  # the others have theirs in brackets


@pytest.mark.parametrize("name", [name for name, command in COMMAND.items()
                                  if any(option.name == "changes" for option in command.params)])  # fmt: skip
def test_a_command_that_takes_only_sampling_keys_says_so(name):
    (changes,) = (option for option in COMMAND[name].params if option.name == "changes")
    sampling = name in ("sample", "specimens", "traverse", "search", "project", "evaluate", "export",
                         "originals")  # fmt: skip
    assert ("sample." in changes.help) == sampling


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("fork", ["x", "--at", "5"], ["x", "--step", "5"]),
        ("rollback", ["x", "--to=5"], ["x", "--step=5"]),
        ("replay", ["x", "--to", "5"], ["x", "--step", "5"]),
        ("film", ["x", "--set", "sample.eta=1", "--to", "9"], ["x", "sample.eta=1", "--to", "9"]),
        ("walk", ["x", "--set=sample.steps=3"], ["x", "sample.steps=3"]),
        ("export", ["x", "--to", "onnx"], ["x", "--to", "onnx"]),
    ],
)  # fmt: skip
def test_old_spellings_mean_the_new_ones(name, old, new):
    assert renamed(name, old) == new
    load(name).make_context(name, renamed(name, [*old, *(["--out", "y"] if name == "export" else [])]))


def test_an_old_spelling_works_on_the_command_line_and_is_not_in_its_help(monkeypatch, capsys, tmp_path):
    code, _, err = run(monkeypatch, capsys, "fork", "nothing", "--at", "5", "--runs", str(tmp_path))
    assert (code, err) == (2, f"safelight: nothing: no such run in {tmp_path}\n")
    _, out, _ = run(monkeypatch, capsys, "fork", "--help")
    assert "--step" in out
    assert "--at" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["walk", "x", "--frames"], "Option '--frames' requires an argument (see safelight walk --help)"),
        (["replay", "x", "--zzz"], "No such option: --zzz (see safelight replay --help)"),
        (["sample"], "Missing argument 'RUN' (see safelight sample --help)"),
        (["nosuch"], "No such command 'nosuch' (see safelight --help)"),
    ],
)
def test_a_wrong_use_says_where_the_help_is(monkeypatch, capsys, arguments, message):
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert (code, err) == (2, f"safelight: {message}\n")


@pytest.mark.parametrize(
    "code",
    [
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {name for name in sys.modules if name.startswith('safelight.cli.')}\n",
        "for _, commands in cli.COMMANDS.values():\n    for name in commands:\n        cli.load(name)\n",
    ],
)
def test_help_does_not_wait_for_torch(code):
    code = f"import sys\nsys.argv = ['safelight', '--help']\nfrom safelight import cli\n{code}"
    code += "heavy = {'torch', 'matplotlib'} & sys.modules.keys()\nassert not heavy, heavy\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["sample", "specimens", "evaluate", "log"])
def test_a_number_of_samples_is_n_everywhere(name):
    spellings = [option.opts for option in COMMAND[name].params if "--n" in option.opts]
    assert spellings
    assert all("-n" in opts for opts in spellings)
