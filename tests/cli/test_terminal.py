"""Nothing of a name, a class or a recipe reaches a terminal raw: no escape, newline or bidi control."""

from __future__ import annotations

import json
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from PIL import Image

from command_line import run
from safelight import terminal
from safelight.cli import COMMANDS, load
from safelight.terminal import plain
from tiny import TINY

EVIL = "\x1b[8m\u202eevil\nFORGED: all is well\r\x07\x9b2J\x7f\u2028\u2066[/bold][red]:smile:"
FOLDER = EVIL.replace("/", "|")
RECIPE = {
    **TINY,
    "about.title": EVIL,
    "train.steps": 4,
    "watch.every": 4,
    "checkpoint.every": 2,
    "watch.images": 4,
    "train.ema_lengths": [],
}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[8m", r"\x1b[8m"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x9b", r"\x9b"),
        ("\u202eabc\u2066", r"\u202eabc\u2066"),
        ("\u200b\ufeff\u061c\u200f", r"\u200b\ufeff\u061c\u200f"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\udcff", r"\udcff"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_hides_or_moves_text_is_spelt_out(text, shown):
    assert plain(text) == shown


@pytest.mark.parametrize(
    "text", ["", "red apple", "naïve 赤い りんご", "می‌خواهم", "👩‍🚀", "a\u3000b\u00a0c", r"C:\new", "Ⅳ ½ ∑"]
)
def test_what_is_written_in_any_language_stays(text):
    assert plain(text) == text


def test_every_character_that_is_printed_is_visible_or_a_space():
    ranges = (0, 0x3100), (0xD7F0, 0xE010), (0xFE00, 0x11000), (0xE0000, 0xE0200)
    everything = "".join(chr(code) for begin, end in ranges for code in range(begin, end))
    shown = plain(everything)
    assert {unicodedata.category(character) for character in set(shown)}.isdisjoint({"Cc", "Cs", "Zl", "Zp"})
    assert {character for character in set(shown) if unicodedata.category(character) == "Cf"} == {
        "\u200c",
        "\u200d",
    }
    assert plain(shown) == shown


@pytest.mark.parametrize("options", [{}, {"force_terminal": True, "color_system": "truecolor"}])
def test_a_console_prints_lines_tables_and_bars_without_escapes_of_theirs(options, capsys):
    from rich.text import Text

    out = terminal.console(width=400, **options)
    out.print(EVIL, style="bold")
    out.print(Text(EVIL))
    out.print(terminal.table([EVIL, "n"], [[EVIL, 1], [2, EVIL]], ["n"]))
    bar = terminal.Bar(out)
    with bar.display:
        bar.progress(EVIL, 1, 2)
    printed = capsys.readouterr().out
    assert "\x1b[8m" not in printed
    assert (
        not set(EVIL)
        & set(printed) - {"\n", "\r", "\x1b"}
        & set(map(chr, [*range(32), *range(127, 160), 0x202E]))
    )
    assert "[/bold][red]:smile:" in printed


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where runs/ holds a run whose name, recipe, classes, files, journal and evaluation are hostile."""
    from safelight.engine.distributed import World
    from safelight.recipe import load
    from safelight.sharing import pack
    from safelight.store import results as evaluations
    from safelight.store import sealed
    from safelight.store.directory import RunDirectory
    from safelight.store.journal_writer import JournalWriter
    from safelight.training.progress import Show
    from safelight.training.start import begin

    place = tmp_path_factory.mktemp("work")
    draw = np.random.default_rng(0)
    for name in (FOLDER, "plain"):
        for number in range(14):
            path = place / "photos" / name / f"{number}{FOLDER if number == 1 else ''}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 255, (28, 28), np.uint8)).save(path)
    (place / "photos" / FOLDER / f"bad{FOLDER}.png").write_bytes(b"no picture")
    data = {"data.source": "folder", "data.path": str(place / "photos"), "data.channels": 1,
            "data.size": [28, 28], "data.skip_bad": True, "data.held_out": 0.25}  # fmt: skip
    recipe = load("digits-class", {**RECIPE, **data})
    (place / "evil.toml").write_text(tomli_w.dumps(recipe.tree))
    begun = begin(recipe, place / "runs", "run", World(), Show())
    with JournalWriter(begun.journal_path) as writer:
        advice = [{"words": EVIL, "command": EVIL}]
        verdict = {"name": EVIL, "begins": True, "step": 4, "since": 3, "measured": EVIL, "expected": EVIL}
        writer.append("verdict", {**verdict, "rescue": 2, "advice": advice})
        writer.append(
            "intervention", {"id": "e", "step": 4, "origin": EVIL, "changes": {"about.title": EVIL}}
        )
    results = {EVIL: {"value": 1.0, "spread": None, "floor": 2.0}}
    measured = {"step": 4, "weights": EVIL, "extractor": EVIL, "results": results}
    measured |= {"basis": {EVIL: EVIL}, "floor": EVIL}
    evaluations.store(begun.path, "00000004-evil", measured)
    facts = sealed.read(begun.path / "run.json")
    (begun.path / "run.json").write_bytes(sealed.pretty({**facts, "recipe": EVIL}))
    pack.share(begun, place / "run.slr")
    shutil.copytree(begun.path, place / "runs" / FOLDER)
    assert RunDirectory(place / "runs" / FOLDER).info().recipe == EVIL
    return place


SMALL = ["--n", "4"]
HOSTILE = {  # what each command is told: as much of it hostile as it takes
    "train": ["evil.toml", "--name", "again", "--no-check"],
    "resume": [FOLDER],
    "sweep": ["evil.toml", "optim.lr=1e-3", "--seeds", "1"],
    "queue add": ["evil.toml", "--name", FOLDER],
    "queue list": [],
    "queue remove": ["7"],
    "queue run": ["--print", "cron"],
    "recipes": [],
    "new": [f"{FOLDER}.toml"],
    "data inspect": ["photos", "--sheet", "sheet.png"],
    "data pack": ["photos", "data.size=28", "data.skip_bad=true"],
    "check": ["evil.toml", "--fast"],
    "explain": [EVIL],
    "plan": ["evil.toml", "--device", EVIL],
    "tune": [FOLDER, f"about.title={EVIL}"],
    "fork": [FOLDER, "--step", "2", f"{EVIL}=1"],
    "bisect": [FOLDER, "--verdict", EVIL],
    "rollback": [FOLDER, "--step", "2", "--no-train"],
    "replay": [FOLDER, "--step", "3"],
    "runs": [],
    "show": [FOLDER, "--journal"],
    "report": [FOLDER],
    "tree": [],
    "disk": [FOLDER],
    "prune": [FOLDER, "--budget", EVIL],
    "sample": [FOLDER, *SMALL, "--condition", f"label={EVIL}"],
    "specimens": [FOLDER, "-n", "4"],
    "film": [FOLDER, "4.1", "--to", "2", "--every", "1", "--out", f"{FOLDER}.webp"],
    "walk": [FOLDER, "4.1", EVIL],
    "traverse": [FOLDER, "--attribute", f"{EVIL}=0..1"],
    "search": [FOLDER, "--objective", f"reference={EVIL}"],
    "project": [FOLDER, EVIL],
    "evaluate": [FOLDER, "--n", "20", "--features", EVIL],
    "compare": [FOLDER, "run"],
    "influence": [FOLDER, EVIL],
    "originals": [FOLDER, "--n", "2", "--features", EVIL],
    "log": [],
    "export": [FOLDER, "--to", EVIL, "--out", EVIL],
    "share": [FOLDER, "--out", f"{FOLDER}.slr", "--with", EVIL],
    "open": ["run.slr", "--replay", "2"],
    "push": [FOLDER, f"hub:{EVIL}", "--license", EVIL],
    "pull": [f"hub:{EVIL}"],
    "cite": [FOLDER, "--author", EVIL],
    "export-metrics": [FOLDER, "--out", f"{FOLDER}.csv"],
    "pin": [FOLDER, EVIL],
    "web": [FOLDER, "--host", EVIL],
}
ALSO = {  # the same commands where they succeed
    "show": [FOLDER],
    "sample": [FOLDER, *SMALL, "--out", f"{FOLDER}.png"],
    "prune": [FOLDER, "--dry-run"],
    "export": [FOLDER, "--to", "safetensors", "--out", FOLDER],
    "tune": [FOLDER, "watch.every=3"],
    "disk": ["no" + EVIL],
    "cite": [FOLDER, "--to", "croissant"],
}


def commands() -> list[str]:
    """Every command of the command line, those of groups with their group's name."""
    result = []
    for name in (name for _, named in COMMANDS.values() for name in named):
        parts = getattr(load(name), "commands", None)
        result += [f"{name} {part}" for part in parts] if parts else [name]
    return result


def test_every_command_is_fed():
    assert set(HOSTILE) == set(commands())


@pytest.mark.parametrize(("command", "words"), [*HOSTILE.items(), *ALSO.items()])
def test_a_command_prints_nothing_raw(command, words, folder, monkeypatch, capsys, tmp_path):
    work = tmp_path / "work"
    shutil.copytree(folder, work)
    monkeypatch.chdir(work)
    monkeypatch.setenv("COLUMNS", "1000")
    light = ("runs", "show", "tree", "disk", "compare", "data inspect")  # the others print paths, or the same
    for flag in ([], ["--json"]) if command in light else ([],):
        code, out, err = run(monkeypatch, capsys, *command.split(), *words, *flag)
        assert "Traceback" not in err, err
        assert code in (0, 1, 2)
        for character in set(out + err) - {"\n"}:
            assert plain(character) == character
        assert not [line for line in (out + err).split("\n") if line.startswith("FORGED")]
        if code == 2:
            assert err.count("safelight: ") == 1
        if flag and out:
            json.loads(out)


def test_json_holds_the_strings_as_they_are(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    _, out, _ = run(monkeypatch, capsys, "runs", "--json")
    assert FOLDER in {row["name"] for row in json.loads(out)}
    assert EVIL in {row["recipe"] for row in json.loads(out)}
    _, out, _ = run(monkeypatch, capsys, "data", "inspect", "photos", "--sheet", "s.png", "--json")
    assert any(FOLDER in line for line in json.loads(out)["bad"])
    assert out.isascii()
