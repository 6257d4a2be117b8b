"""compare, sweep and log as a person meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from command_line import run
from compare_runs import Made
from safelight.store.directory import RunDirectory


@pytest.fixture
def runs(tmp_path) -> Path:
    """Two made-up runs, a and b, and a failed one."""
    made = Made(tmp_path / "runs")
    made("a", losses=lambda step: 2.0)
    made("b", {"optim.lr": 0.01}, losses=lambda step: 3.0)
    made("failed", done=20, end="failed")
    return made.runs


@pytest.fixture
def tell(monkeypatch, capsys):
    """Exit code, stdout and stderr of `safelight WORDS`."""
    return partial(run, monkeypatch, capsys)


def test_compare_prints_and_writes(tell, runs):
    code, out, err = tell("compare", "a", "b", "failed", "--runs", str(runs))
    assert (code, err) == (0, "")
    assert "What differs: optim.lr (0.001, 0.01)" in out
    assert "failed after step 20 of 100" in out
    assert out.split()[-1] == str(runs / "compare.html")
    assert (runs / "compare.md").read_text().startswith("# a, b and failed")
    assert (runs / "compare.html").is_file()


def test_compare_as_json_and_elsewhere(tell, runs, tmp_path):
    out_folder = tmp_path / "elsewhere"
    code, out, err = tell(
        "compare", "a", str(runs / "b"), "--runs", str(runs), "--out", str(out_folder), "--json"
    )
    assert (code, err) == (0, "")
    printed = json.loads(out)
    assert printed["files"] == {
        "markdown": str(out_folder / "compare.md"),
        "html": str(out_folder / "compare.html"),
    }
    rows = printed["at"][0]["components"]["columns"][0]["rows"]
    assert {row["run"]: row["numbers"]["mse"]["value"] for row in rows} == {"a": 2.0, "b": 3.0}
    assert not (runs / "compare.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare", "a"], "compare: name two runs or more"),
        (["compare", "a", "a"], "compare: name two runs or more"),
        (["compare", "a", "bb"], "bb: no such run in"),
        (["sweep", "digits", "optim.lr=1e-3,"], "'optim.lr=1e-3,': expected key=value,value"),
        (["sweep", "digits", "optim.ls=1e-3,1e-2"], "optim.ls: no such key"),
        (["sweep", "digitz"], "digitz: no such recipe"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(tell, runs, words, message):
    code, out, err = tell(*words, "--runs", str(runs))
    assert (code, out) == (2, "")
    assert err.startswith(f"safelight: {message}")
    assert err.count("\n") == 1


def test_log_lists_every_run_newest_first(tell, runs):
    code, out, err = tell("log", "--runs", str(runs))
    assert (code, err) == (0, "")
    assert out.split()[-1] == str(runs / "log.html")
    printed = json.loads(tell("log", "--runs", str(runs), "--json")[1])
    assert [row["name"] for row in printed["runs"]] == ["failed", "b", "a"]
    assert [row["key"] for row in printed["runs"][1]["changes"]] == ["optim.lr"]


def test_log_of_nothing(tell, tmp_path):
    assert tell("log", "--runs", str(tmp_path)) == (0, f"no runs in {tmp_path}\n", "")
    assert json.loads(tell("log", "--runs", str(tmp_path), "--json")[1])["runs"] == []


@pytest.fixture
def _trained_by_hand(monkeypatch) -> None:
    """Sweeps that make up their runs instead of training them; the seed and lr decide the loss."""
    from safelight.training import stages

    def begin(recipe, runs, name, world, show, products, checked, until, halt) -> RunDirectory:
        tree = recipe.tree
        if tree["optim"]["lr"] == 0.5:
            raise RuntimeError("out of memory")
        if tree["optim"]["lr"] == 0.7:
            raise KeyboardInterrupt
        changes = {
            f"{section}.{key}": value
            for section, values in tree.items()
            if isinstance(values, dict)
            for key, value in values.items()
        }
        value = tree["optim"]["lr"] * 10 + tree["train"]["seed"]
        return Made(runs)(name, changes, done=20, losses=lambda step: value, sheets=(20,))

    monkeypatch.setattr(stages, "begin", begin)
    monkeypatch.setattr(
        stages, "_status", lambda directory, recipe: "finished" if directory.path.exists() else None
    )


@pytest.mark.usefixtures("_trained_by_hand")
def test_a_sweep_is_trained_and_judged_over_its_seeds(tell, tmp_path):
    words = [
        "sweep",
        "digits",
        "optim.lr=0.1,0.11,9.0",
        "--seeds",
        "2",
        "train.steps=20",
        "--runs",
        str(tmp_path),
    ]
    code, out, err = tell(*words)
    assert (code, err) == (0, "")
    assert "1/6  lr = 0.1 · seed 0: trained" in out
    assert "within the seed spread" in out
    assert out.split()[-1] == str(tmp_path / "sweep-digits-lr.html")
    code, out, err = tell(*words, "--json")
    assert (code, err) == (0, "")
    printed = json.loads(out)
    assert {item["outcome"] for item in printed["cells"]} == {"done before"}
    judged = {item["what"]: item for item in printed["comparison"]["seeds"]["judged"]}
    (mse,) = judged["Loss components at 1,280 images seen"]["numbers"]
    assert {item["label"]: item["verdict"] for item in mse["contrasts"]} == {
        "lr = 0.11": "within the seed spread",
        "lr = 9": "higher",
    }


@pytest.mark.usefixtures("_trained_by_hand")
def test_a_sweep_with_a_failed_cell_ends_with_1_and_compares_the_rest(tell, tmp_path):
    code, out, _ = tell("sweep", "digits", "optim.lr=0.1,0.5,0.2", "--runs", str(tmp_path), "--json")
    assert code == 1
    printed = json.loads(out)
    assert [cell["outcome"] for cell in printed["cells"]] == ["trained", "failed", "trained"]
    assert printed["cells"][1]["problem"] == "RuntimeError: out of memory"
    assert len(printed["comparison"]["runs"]) == 2


@pytest.mark.usefixtures("_trained_by_hand")
def test_ctrl_c_ends_a_sweep_with_130_and_the_words_that_go_on(tell, tmp_path):
    words = ["sweep", "digits", "optim.lr=0.1,0.7,0.2", "--seeds", "2", "--runs", str(tmp_path)]
    code, out, _ = tell(*words)
    assert code == 130
    assert out.splitlines()[-1] == (
        "stopped; what is trained is kept. Continue with: "
        f"safelight sweep digits optim.lr=0.1,0.7,0.2 --seeds 2 --runs {tmp_path}"
    )
    code, out, _ = tell(*words, "--json")
    printed = json.loads(out)
    assert [cell["outcome"] for cell in printed["cells"]] == [
        *["done before"] * 2,
        "stopped",
        *["not begun"] * 3,
    ]
    assert printed["comparison"] is None


@pytest.mark.parametrize("words", [["compare", "a", "b"], ["log"]])
def test_comparing_does_not_import_torch(words, runs):
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['safelight', *{[*words, '--runs', str(runs)]!r}]\n"
        "try:\n    runpy.run_module('safelight', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'sklearn'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
