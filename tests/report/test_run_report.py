"""What a report says of a run: its title, its verdict, and commands that make it again."""

from __future__ import annotations

import re
import shlex

import pytest

from command_line import run
from safelight.recipe import load
from safelight.report.history import history_of
from safelight.report.run_page import run_page
from safelight.report.run_report import describe, read_run, reproduce, unconditional
from safelight.store.directory import RunDirectory, find
from safelight.store.journal_writer import JournalWriter

LABEL = {"label": {"kind": "label", "size": 2, "names": []}}
STAMPS = {"name": "stamps", "train": 723, "shape": [3, 32, 64], "conditions": {}}
FOUR = {"attributes": {"kind": "attributes", "size": 4, "names": []}}


@pytest.mark.parametrize(
    ("recipe", "changes", "conditions", "title"),
    [
        ("fashion", {}, LABEL, "Class-conditional rectified flow, trained on 723 images of stamps, 64x32."),
        ("fashion", {}, {}, "Unconditional rectified flow, trained on 723 images of stamps, 64x32."),
        (
            "fashion",
            {"network.ignore": ["label"]},
            LABEL,
            "Unconditional rectified flow, trained on 723 images of stamps, 64x32.",
        ),
        (
            "digits-class",
            {},
            LABEL,
            "Class-conditional DDPM of 300 steps, trained on 723 images of stamps, 64x32.",
        ),
        ("fashion-gan", {}, {}, "Unconditional relativistic GAN, trained on 723 images of stamps, 64x32."),
        (
            "faces",
            {},
            FOUR,
            "Attribute-conditional variational autoencoder, trained on 723 images of stamps, 64x32.",
        ),
    ],
)
def test_the_title_is_of_the_method_and_the_data_not_of_the_recipe(recipe, changes, conditions, title):
    assert describe(load(recipe, changes), {**STAMPS, "conditions": conditions}) == title


def test_a_recipe_for_classes_says_where_the_images_have_none():
    said = unconditional(load("fashion"), STAMPS)
    assert said.startswith("stamps has no classes, so this trains without conditions; set data.labels=false")
    assert unconditional(load("fashion"), {**STAMPS, "conditions": LABEL}) == ""
    assert unconditional(load("fashion", {"data.labels": False}), STAMPS) == ""


def test_a_verdict_says_where_the_run_stands_and_what_is_not_known(finished, tmp_path):
    import shutil

    copy = RunDirectory(shutil.copytree(finished.path, tmp_path / "whole"))
    with JournalWriter(copy.journal_path) as writer:
        said = {"measured": "a", "expected": "b", "advice": []}
        when = {"begins": True, "step": 20, "since": 10}
        writer.append("verdict", {"name": "mode collapse", **when, **said})
    sections = {
        section.title: section.blocks for section in run_page(*read_run(copy), reproduce(copy)).sections
    }
    assert sections["Verdict"][0].lines == (
        "Finished: 30 of 30 steps.",
        "Verdicts against it: mode collapse.",
        "Not measured: how far samples are from real images; safelight evaluate whole measures it.",
        "Not measured: whether the recipe has a silent fault: it was trained without checks.",
    )
    assert "about" not in dict(sections["Configuration"][0].groups)


def test_the_commands_of_a_report_make_the_run_and_its_forks_again(monkeypatch, capsys, tmp_path, tiny_words):
    """Typed as they are printed, in the folder where the run was trained."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SAFELIGHT_RUNS", raising=False)
    train = ["train", "digits-class", *tiny_words, "train.steps=6", "checkpoint.every=4", "watch.every=6"]
    assert run(monkeypatch, capsys, *train, "--name", "first")[0] == 0
    fork = ["fork", "first", "--step", "4", "optim.lr=0.00025", "--name", "calmer"]
    assert run(monkeypatch, capsys, *fork)[0] == 0
    report = (tmp_path / "runs/calmer/report.md").read_text()
    (block,) = re.findall("```\n(.*?)\n```", report, re.DOTALL)
    lines = block.split("\n")
    assert lines == [
        f"cd {shlex.quote(str(tmp_path))}",
        "safelight train runs/first/recipe.toml --name first-again",
        "safelight fork first-again --step 4 optim.lr=0.00025 --name calmer-again",
        "safelight show calmer-again",
    ]
    for line in lines[1:]:
        assert run(monkeypatch, capsys, *shlex.split(line)[1:])[0] == 0
    for name in ("first", "calmer"):
        made = [reproduce(find(run_name, tmp_path / "runs")) for run_name in (name, f"{name}-again")]
        assert made[0].digest == made[1].digest
        assert made[0].step == 6
    history = history_of(*read_run(find("calmer", tmp_path / "runs")))
    assert list(history.components[0].steps) == [1, 2, 3, 4, 5, 6]  # its parent's up to the fork
    assert [(event.step, event.label) for event in history.events] == [(4, "forked from first")]
