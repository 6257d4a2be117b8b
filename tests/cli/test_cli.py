"""The command line as a person meets it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import run
from safelight.recipe import load
from safelight.store import checkpoint_files


@pytest.fixture(scope="module")
def runs(finished, tmp_path_factory) -> Path:
    """A directory with one finished run, "first"."""
    folder = tmp_path_factory.mktemp("runs")
    shutil.copytree(finished.path, folder / "first")
    return folder


def test_train_show_runs_and_report(monkeypatch, capsys, tmp_path, tiny_words):
    code, out, err = run(
        monkeypatch, capsys, "train", "digits-class", *tiny_words, "--runs", str(tmp_path), "--json"
    )
    assert code == 0
    assert "digits-class-1: trains step 0 to 30 on cpu, fp32 contiguous\n" in err
    assert "step 30 of 30 after 0:" in err
    trained = json.loads(out)
    assert (trained["name"], trained["status"], trained["step"]) == ("digits-class-1", "finished", 30)
    assert len(trained["weights"]) == 64
    assert Path(trained["report"]).is_file()
    _, out, _ = run(monkeypatch, capsys, "show", "digits-class-1", "--runs", str(tmp_path), "--json")
    assert json.loads(out) == trained
    _, out, _ = run(monkeypatch, capsys, "runs", "--runs", str(tmp_path), "--json")
    assert [(item["name"], item["status"]) for item in json.loads(out)] == [("digits-class-1", "finished")]
    _, out, _ = run(monkeypatch, capsys, "show", "digits-class-1", "--runs", str(tmp_path))
    assert "finished, step 30 of 30" in out
    Path(trained["report"]).unlink()
    _, out, _ = run(monkeypatch, capsys, "report", "digits-class-1", "--runs", str(tmp_path))
    assert out.split()[-1] == trained["report"]
    assert Path(trained["report"]).is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "digits", "train.stepz=5"], "train.stepz: no such key (did you mean 'train.steps'?)"),
        (["train", "digitz"], "digitz: no such recipe (did you mean 'digits'?)"),
        (["train", "digits", "lr"], "'lr': expected key=value"),
        (["show", "frist"], "frist: no such run"),
        (["sample", "first", "--condition", "label=12"], "condition label=12: classes are 0 to 9"),
        (["sample", "first", "--condition", "lable=1"], "condition lable: the data has no such condition"),
        (["sample", "first", "--sampler", "huen"], "sample.sampler: 'huen' is not a valid choice"),
        (["sample", "first", "--out", "x.bmp"], "x.bmp: unknown output type; use .png, .npz, .tar or"),
        (
            ["sample", "first", "--out", "x.zip"],
            "x.zip: unknown output type; use .png, .npz, .tar",
        ),
        (["sample", "first", "--out", "/"], "/: is a folder that holds files already"),
        (
            ["sample", "first", "--guide-by", "@x"],
            "sample.guide_by=@x: first: no checkpoint has the name 'x'",
        ),
        (
            ["sample", "first", "--guide-by", "frist"],
            "sample.guide_by=frist: frist: no such run in RUNS (did you mean 'first'?)",
        ),
        (["train", "digits", "sample.guide_by=first"], "sample.guide_by: needs a trained run"),
        (["sample", "first", "--condition", "label=²"], "condition label=²: classes are 0 to 9"),
        (["export", "first", "--to", "tar", "--out", "x"], "--to tar: is not a valid choice; use diffusers"),
        (["export", "first", "--to", "onnx", "--out", "/"], "/: exists already"),
        (["fork", "first", "--step", "14", "--name", "first"], "RUNS/first: exists already"),
        (["train", "digits", "--name", "first"], "RUNS/first: exists already"),
        (["train", "digits", "--name", "a/b"], "'a/b': cannot name a run"),
        (["train", "digits", "data.path=" + "a" * 300], "HERE/aaa"),
        (["sample", "first", "train.steps=3"], "train.steps: only keys of [sample]"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(monkeypatch, capsys, runs, words, message):
    opened = []
    monkeypatch.setattr("safelight.run.Run.__init__", lambda *arguments, **options: opened.append(arguments))
    code, out, err = run(monkeypatch, capsys, *words, *(["--runs", str(runs)] if words[0] != "new" else []))
    assert (code, out) == (2, "")
    err = err.replace(str(runs), "RUNS").replace(str(Path.cwd()), "HERE")
    assert not opened  # it costs no networks
    assert err.startswith(f"safelight: {message}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message", "where"),
    [
        (["trian"], "No such command 'trian'", "safelight"),
        (["data", "pack"], "Missing argument 'PATH'", "safelight data pack"),
        (["runs", "--jsn"], "No such option: --jsn", "safelight runs"),
    ],
)
def test_words_that_are_no_command_are_one_line_too(monkeypatch, capsys, words, message, where):
    code, out, err = run(monkeypatch, capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith(f"safelight: {message}")
    assert err.endswith(f"(see {where} --help)\n")
    assert err.count("\n") == 1


def test_a_command_without_arguments_shows_its_help_and_nothing_else(monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, "data")
    assert code == 2
    assert "inspect" in out + err
    assert "safelight:" not in out + err


def test_sample_as_sheet_folder_and_arrays(monkeypatch, capsys, runs, tmp_path):
    words = ["sample", "first", "--n", "20", "--condition", "label=each", "--guidance", "2", "--steps", "3",
             "--sampler", "euler", "--seed", "4", "--runs", str(runs)]  # fmt: skip
    for out in ("sheet.png", "arrays.npz", "folder"):
        code, printed, _ = run(monkeypatch, capsys, *words, "--out", str(tmp_path / out), "--json")
        assert code == 0
        assert json.loads(printed)["sample"]["guidance"] == 2
    arrays = np.load(tmp_path / "arrays.npz")
    assert arrays["images"].shape == (20, 28, 28, 1)
    assert arrays["images"].dtype == np.uint8
    assert arrays["label"].tolist() == list(range(10)) * 2
    files = sorted((tmp_path / "folder").glob("*.png"))
    assert len(files) == 20
    for number, file in enumerate(files):
        assert (np.asarray(Image.open(file)) == arrays["images"][number, :, :, 0]).all()
    from safelight.render.sheet_file import read_sheet

    assert (read_sheet(tmp_path / "sheet.png") == arrays["images"]).all()


def test_sampling_that_is_stopped_says_how_to_go_on(monkeypatch, capsys, runs, tmp_path):
    from safelight.explore.output import Output

    add, out = Output.add, str(tmp_path / "s.tar")

    def stopping(self, samples):
        if self.rows:
            raise KeyboardInterrupt
        return add(self, samples)

    words = ["sample", "first", "--count", "4", "--chunk", "2", "--out", out, "--runs", str(runs)]
    monkeypatch.setattr(Output, "add", stopping)
    code, printed, err = run(monkeypatch, capsys, *words)
    assert (code, printed, err) == (130, "", f"stopped; the same command goes on with {out}.part\n")
    monkeypatch.setattr(Output, "add", add)
    assert run(monkeypatch, capsys, *words) == (0, f"{out} (step 30)\n", "")
    code, _, err = run(monkeypatch, capsys, *words)
    assert (code, err) == (2, f"safelight: {out}: exists already; choose a new name\n")


def test_samples_guided_by_an_earlier_checkpoint(monkeypatch, capsys, runs, tmp_path):
    """The whole name of the guide is recorded; strength 1 is none; an export says that it goes without."""
    pictures = {}
    for name, words in {"plain": ["--guidance", "1"], "1": ["--guidance", "1", "--guide-by", "@10"],
                        "3": ["--guidance", "3", "--guide-by", "@10"]}.items():  # fmt: skip
        place = tmp_path / f"{name}.npz"
        words += ["--n", "4", "--out", str(place), "--runs", str(runs), "--json"]
        code, printed, _ = run(monkeypatch, capsys, "sample", "first", *words)
        assert (code, json.loads(printed)["sample"]["guide_by"]) == (
            0,
            None if name == "plain" else "first@10",
        )
        pictures[name] = np.load(place)["images"]
    assert (pictures["1"] == pictures["plain"]).all()
    assert (pictures["3"] != pictures["plain"]).any()
    words = ["--to", "safetensors", "--out", str(tmp_path / "networks"), "--runs", str(runs)]
    _, printed, _ = run(
        monkeypatch, capsys, "export", "first", *words, "sample.guide_by=@10", "sample.steps=7"
    )
    assert "left out: guidance by first@10" in printed
    recipe = json.loads((tmp_path / "networks" / "config.json").read_text())["recipe"]
    assert (recipe["sample"]["steps"], recipe["sample"]["guidance"]) == (7, 1.0)
    assert "guide_by" not in recipe["sample"]


def test_new_writes_a_recipe_that_trains_the_same(monkeypatch, capsys, tmp_path):
    path = tmp_path / "my.toml"
    assert run(monkeypatch, capsys, "new", str(path), "--from", "digits-class")[0] == 0
    assert load(path).tree == load("digits-class").tree
    assert "#" in path.read_text()
    code, _, err = run(monkeypatch, capsys, "new", str(path))
    assert code == 2
    assert "exists already" in err


def test_recipes_are_listed_with_size_and_time(monkeypatch, capsys):
    _, out, _ = run(monkeypatch, capsys, "recipes", "--json")
    listed = {recipe["name"]: recipe for recipe in json.loads(out)}
    assert listed.keys() >= {"digits", "fashion", "digits-denoise", "digits-time", "digits-class"}
    assert all(recipe["size"] and recipe["time"] and recipe["title"] for recipe in listed.values())
    gpu = ["CPU" not in recipe["time"] for recipe in listed.values()]
    assert gpu == sorted(gpu)


@pytest.mark.parametrize("words", [["--help"], ["runs"], ["recipes"], ["show", "first"]])
def test_light_commands_do_not_import_torch(words, runs):
    where = ["--runs", str(runs)] if words[0] in ("runs", "show") else []
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['safelight', *{[*words, *where]!r}]\n"
        "try:\n    runpy.run_module('safelight', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'matplotlib', 'sklearn', 'PIL'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_imports_neither_pydantic_nor_numpy():
    code = (
        "import sys\nsys.argv = ['safelight', '--help']\nimport safelight.cli\n"
        "try:\n    safelight.cli.main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'pydantic', 'numpy', 'torch'} & sys.modules.keys()\nassert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_disk_prune_rollback_and_tree(monkeypatch, capsys, runs, tmp_path):
    import shutil

    folder = str(tmp_path / "runs")
    shutil.copytree(runs, folder)
    words = ["--runs", folder]
    _, out, _ = run(monkeypatch, capsys, "disk", "first", *words, "--json")
    printed = json.loads(out)
    assert [item["step"] for item in printed["checkpoints"]] == [10, 20, 30]
    assert {item["why"][0] for item in printed["checkpoints"]} == {"newest"}
    assert (printed["budget"], printed["longest_replay"]["steps"]) == (10**10, 9)
    assert printed["bytes"] == sum(printed["kinds"].values())
    code, _, err = run(monkeypatch, capsys, "prune", "first", "--budget", "1 giga", *words)
    assert (code, err.startswith("safelight: --budget: '1 giga' is no size")) == (2, True)
    code, out, err = run(
        monkeypatch, capsys, "rollback", "first", "--step", "14", "optim.lr=1e-4", *words, "--json"
    )
    assert (code, "\nthe earlier first is kept as first-before-14\n" in err) == (0, True)
    assert json.loads(out)["step"] == 30
    _, out, _ = run(monkeypatch, capsys, "tree", *words, "--json")
    assert [(item["name"], item["parent"], item["at"]) for item in json.loads(out)] == [
        ("first-before-14", None, None), ("first", "first-before-14", 14)]  # fmt: skip
    _, out, _ = run(monkeypatch, capsys, "prune", "first", "--budget", "0", "--dry-run", *words, "--json")
    assert json.loads(out)["steps"] == []  # where it begins, and the newest three with it
    _, out, _ = run(monkeypatch, capsys, "disk", "first", *words)
    assert "where it begins" in out
    assert "replay: any step from 14 on by recomputing at most 9 (" in out
    _, out, _ = run(monkeypatch, capsys, "replay", "first", "--step", "12", *words, "--json")
    assert (json.loads(out)["verdict"], json.loads(out)["start"]) == ("exact", 10)


def test_samples_of_any_step(monkeypatch, capsys, runs, tmp_path):
    printed = {}
    for step in ("10", "17"):
        words = ["sample", "first", "--step", step, "--n", "4", "--out", str(tmp_path / f"{step}.npz")]
        code, out, err = run(monkeypatch, capsys, *words, "--runs", str(runs), "--json")
        assert (code, err) == (0, "")
        printed[step] = json.loads(out)
    assert [(row["step"], row["verdict"]) for row in printed.values()] == [
        (10, "checkpoint matches the journal"),
        (17, "exact"),
    ]
    ten, seventeen = (np.load(tmp_path / f"{step}.npz")["images"] for step in printed)
    assert (ten != seventeen).any()


def test_a_fork_that_has_not_trained_is_what_its_parent_was_at_that_step(monkeypatch, capsys, runs, tmp_path):
    import shutil

    from safelight.store import metrics

    folder = shutil.copytree(runs, tmp_path / "runs")
    words = ["--runs", str(folder)]
    fork = ["fork", "first", "--step", "20", "--name", "calmer", "--no-train", *words]
    _, out, _ = run(monkeypatch, capsys, *fork)
    row = metrics.rows(folder / "first")[19]
    lines = dict(line.split(":", 1) for line in out.splitlines())
    assert lines["calmer"] == " forked, step 20 of 30 (digits-class; forked from first at step 20)"
    assert lines["data"].endswith(f", {row.images:,} seen")
    assert lines["losses"] == f"  mse {row.components['mse']:.4g}"
    assert lines["weights"].endswith(" (checkpoint of step 20)")
    assert lines["replay"] == "  step 20, where it begins"
    shutil.rmtree(folder / "first")
    _, out, _ = run(monkeypatch, capsys, "show", "calmer", *words, "--json")
    printed = json.loads(out)
    assert (printed["step"], printed["images"], printed["parent"]["name"], printed["components"]) == (
        20,
        240,
        "",
        {},
    )


def test_a_learning_rate_a_hundred_times_too_high_warns(monkeypatch, capsys, runs, tmp_path):
    import shutil

    folder = str(shutil.copytree(runs, tmp_path / "runs"))
    words = ["fork", "first", "--step", "20", "optim.lr=2", "--name", "high", "--no-train", "--runs", folder]
    lr = "optim.lr=2 is 2,000 times the 0.001 it replaces; is that meant?"
    code, _, err = run(monkeypatch, capsys, *words)
    assert (code, err) == (0, f"{lr}\n")
    _, _, err = run(monkeypatch, capsys, "tune", "high", "optim.lr=0.002", "--runs", folder)
    assert err == ""


def test_the_journal_tells_what_was_edited(monkeypatch, capsys, runs, tmp_path):
    import shutil

    from safelight.engine.distributed import World
    from safelight.store.directory import find
    from safelight.training.progress import Show
    from safelight.training.start import resume

    folder = shutil.copytree(runs, tmp_path / "runs")
    words = ["--runs", str(folder)]
    code, _, err = run(monkeypatch, capsys, "tune", "first", "optim.lr=1e-4", *words)
    refused = (
        "safelight: first: finished at step 30 of 30, so no step would run with the change; "
        "fork an earlier step: safelight fork first --step STEP optim.lr=0.0001\n"
    )
    assert (code, err) == (2, refused)
    fork = ["fork", "first", "--step", "20", "--name", "calmer", "--no-train", *words]
    assert run(monkeypatch, capsys, *fork)[0] == 0
    code, out, err = run(monkeypatch, capsys, "tune", "calmer", "optim.lr=1e-4", "watch.every=5", *words)
    assert (code, out, err) == (0, "calmer: optim.lr=1e-4, watch.every=5, when it is resumed\n", "")
    resume(find("calmer", folder), World(), Show())
    _, out, _ = run(monkeypatch, capsys, "show", "calmer", "--journal", *words)
    (line,) = (line for line in out.splitlines() if " intervention " in line)
    assert line.endswith("step=20 origin=command line optim.lr=0.0001 watch.every=5")
    said = []
    before = find("calmer", folder).journal().entries
    resume(find("calmer", folder), World(), Show(tell=said.append))
    assert "calmer is finished: 30 steps, none left to train" in said
    assert find("calmer", folder).journal().entries == before
    for key in ("train.batch_size=4", "optim.kind=adam", "data.flip=true", "network.width=8"):
        code, _, err = run(monkeypatch, capsys, "tune", "first", key, *words)
        assert code == 2
        assert "cannot be edited in a run; the sections that can: optim, loss, watch," in err


def test_samples_of_an_older_checkpoint_say_so_although_nobody_watches(
    finished, monkeypatch, capsys, tmp_path
):
    shutil.copytree(finished.path, tmp_path / "whole")
    steps = checkpoint_files.list_steps(tmp_path / "whole")
    (checkpoint_files.directory(tmp_path / "whole", steps[-1]) / "manifest.json").write_text("{}")
    words = ("sample", "whole", "--n", "1", "--out", str(tmp_path / "s.png"), "--runs", str(tmp_path))
    code, _, err = run(monkeypatch, capsys, *words)
    assert code == 0
    assert re.search(rf"checkpoint {steps[-1]} is not used: .*; goes on with step {steps[-2]}", err)
