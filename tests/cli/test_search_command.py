"""safelight search, as a shell runs it, on a GAN of skylines and a judge that is a file of Python."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from city import city, few
from command_line import run

JUDGE = """
def red(images, prompt=None):
    return images[:, 0].mean((1, 2)) - images[:, 1:].mean((1, 2, 3))

def blue(images):
    return images[:, 2].mean((1, 2))

def broken(images):
    return images
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the run "city" is in runs/, and judge.py beside it."""
    place = tmp_path_factory.mktemp("work")
    (place / "judge.py").write_text(JUDGE)
    city(place / "runs")
    return place


@pytest.fixture(autouse=True)
def _here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    few(monkeypatch)


def search(monkeypatch, capsys, *words: str) -> dict:
    """What `safelight search city WORDS --json` says."""
    code, out, err = run(monkeypatch, capsys, "search", "city", *words, "--json")
    assert code == 0, err
    return json.loads(out)


@pytest.mark.parametrize("method", ["auto", "random", "cma", "ga"])
def test_what_is_found_beats_samples_and_is_kept(method, monkeypatch, capsys):
    result = search(
        monkeypatch, capsys, "--objective", "judge.py:red", "--method", method, "--population", "16",
        "--generations", "12", "--keep", "2",
    )  # fmt: skip
    assert result["evaluations"] == 192
    assert result["method"] == ("gradient" if method == "auto" else method)
    assert result["score"] > result["usual"]["mean"]
    so_far = list(result["best_so_far"].values())
    assert so_far == sorted(so_far)
    for path in result["files"].values():
        with Image.open(path) as picture:
            assert min(picture.size) > 50
    code, _, err = run(monkeypatch, capsys, "walk", "city", *result["specimens"][:1], "0.3", "--frames", "2",
                       "--out", f"{method}.mp4")  # fmt: skip
    assert code == 0, err


def test_cut_off_it_goes_on_to_the_same_bits(folder, monkeypatch, capsys):
    words = ["--objective", "judge.py:red", "--method", "cma", "--population", "8", "--generations", "6"]
    whole = search(monkeypatch, capsys, *words, "--seed", "1")
    place = Path(whole["folder"])
    state, lines = (place / "state.safetensors").read_bytes(), (place / "journal.jsonl").read_bytes()
    shutil.rmtree(place)

    calls = []

    def die(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr("safelight.explore.search.loop.SAVED", 0.0)
    from safelight.explore.search.run import run_search
    from safelight.explore.search.settings import SearchRequest
    from safelight.store.directory import find

    wish = SearchRequest(("judge.py:red",), method="cma", population=8, generations=6, seed=1)
    with pytest.raises(KeyboardInterrupt):
        run_search(find("city", folder / "runs"), wish, progress=die)
    assert 0 < len((place / "journal.jsonl").read_bytes()) < len(lines)
    again = search(monkeypatch, capsys, *words, "--seed", "1")
    assert (place / "state.safetensors").read_bytes() == state
    assert (place / "journal.jsonl").read_bytes() == lines
    assert again["best_so_far"] == whole["best_so_far"]


def test_several_objectives_have_a_front(monkeypatch, capsys):
    result = search(
        monkeypatch,
        capsys,
        "--objective",
        "judge.py:red,judge.py:blue,realism",
        "--population",
        "16",
        "--generations",
        "4",
    )
    assert result["method"] == "ga"
    for row in result["front"]:
        beaten = [all(other[name] >= row[name] for name in row) for other in result["front"] if other != row]
        assert not any(beaten)


PICK = ["--objective", "pick", "--population", "6"]


def test_a_person_picks_from_sheet_to_sheet(monkeypatch, capsys):
    first = search(monkeypatch, capsys, *PICK)
    assert (first["sheet"], first["specimens"]) == (1, [])
    assert first["candidates"] == [f"1.{number}" for number in range(1, 7)]
    second = search(monkeypatch, capsys, *PICK, "--picked", "1.4,1.2")
    assert (second["name"], second["sheet"]) == (first["name"], 2)
    assert second["picked"] == [["1.4", "1.2"]]
    assert [specimen.rpartition(f"{first['name']}-")[2] for specimen in second["specimens"]] == ["1-4", "1-2"]
    files = sorted(Path(second["folder"]).glob("[jrps]*.*"))
    before = [path.read_bytes() for path in files]
    assert search(monkeypatch, capsys, *PICK, "--picked", "1.2, 1.4") == second  # said twice, done once
    assert [path.read_bytes() for path in files] == before
    third = search(monkeypatch, capsys, *PICK, "--picked", "2.none")
    assert (third["sheet"], third["picked"]) == (3, [["1.4", "1.2"], []])
    for path in third["files"].values():
        with Image.open(path) as picture:
            assert min(picture.size) > 50
    code, _, err = run(monkeypatch, capsys, "walk", "city", *third["specimens"], "--frames", "2", "--out",
                       "picked.mp4")  # fmt: skip
    assert code == 0, err


def test_picks_that_were_cut_off_are_drawn_again_alike(folder, monkeypatch, capsys):
    words = [*PICK, "--seed", "1"]
    search(monkeypatch, capsys, *words)
    whole = search(monkeypatch, capsys, *words, "--picked", "1.6")
    sheet = Path(whole["files"]["sheet"])
    drawn = sheet.read_bytes()
    sheet.unlink()
    (Path(whole["folder"]) / "result.json").unlink()
    assert search(monkeypatch, capsys, *words) == whole
    assert sheet.read_bytes() == drawn


def test_a_budget_in_several_splits(monkeypatch, capsys):
    words = ["--objective", "judge.py:red", "--method", "ga", "--budget", "48", "--split", "4x12,12x4"]
    result = search(monkeypatch, capsys, *words, "--seeds", "2")
    assert [(row["population"], row["generations"], row["evaluations"]) for row in result["rows"]] == [
        (4, 12, 48), (12, 4, 48)]  # fmt: skip
    alone = search(monkeypatch, capsys, *words[:4], "--population", "12", "--generations", "4", "--seed", "1",
                   "--keep", "1")  # fmt: skip
    assert alone["score"] == pytest.approx(result["rows"][1]["by seed"][1])
    assert alone["name"] == result["searches"][3]  # the very search, which has ended
    for row in result["rows"]:
        assert row["best"] == pytest.approx(sum(row["by seed"]) / 2)
    with Image.open(result["files"]["curve"]) as picture:
        assert min(picture.size) > 50
    code, out, err = run(monkeypatch, capsys, "search", "city", *words, "--seeds", "2")
    assert code == 0, err
    assert "population" in out


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        ([*PICK, "--picked", "2.1"], "there is no sheet 2 yet; the newest is sheet 1"),
        ([*PICK, "--picked", "1.7"], "expected numbers of one sheet, 1 to 6"),
        ([*PICK, "--picked", "1.1,2.1"], "expected numbers of one sheet"),
        ([*PICK, "--picked", "1.1,1.none"], "expected numbers of one sheet"),
        ([*PICK, "--picked", "the red one"], "expected numbers of one sheet"),
        ([*PICK, "--budget", "100"], "--objective pick: has no budget"),
        (["--objective", "pick,realism"], "cannot be combined with other objectives"),
        (["--objective", "realism", "--picked", "1.1"], "--picked: only with --objective pick"),
        (["--objective", "pick", "--split", "2x2"], "--objective pick has none"),
        (["--objective", "realism", "--split", "2x2,2x3"], "makes 6 evaluations, not 4"),
        (["--objective", "realism", "--split", "2x2", "--budget", "5"], "makes 4 evaluations, not 5"),
        (["--objective", "realism", "--split", "2x2,2x2"], "names a split twice"),
        (["--objective", "realism", "--split", "2x0"], "expected POPULATIONxGENERATIONS"),
        (["--objective", "realism", "--split", "2x2", "--population", "2"], "leave out --population"),
        (["--objective", "realism", "--name", "7"], "a letter first"),
    ],
)
def test_picks_and_splits_that_make_no_sense_are_refused_in_a_line(words, refusal, monkeypatch, capsys):
    code, _, err = run(monkeypatch, capsys, "search", "city", *words, "--seed", "9")
    assert code == 2
    assert refusal in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (["--objective", "text"], '--objective text: needs --prompt "WORDS"'),
        (
            ["--objective", "text", "--prompt", "a tower"],
            "has no captions and was trained without an encoder",
        ),
        (["--objective", "beauty"], "--objective beauty: is not a valid choice (known: "),
        (["--objective", "nothing.py:red"], "there is no such file"),
        (["--objective", "judge.py:rod"], "rod"),
        (["--objective", "judge.py:broken"], "judge.py:broken"),
        (["--objective", "reference=nothing.png"], "there is no such file"),
        (["--objective", "realism,realism"], "names an objective twice"),
        (
            ["--objective", "realism", "--method", "annealing"],
            "--method annealing: is not a valid choice (known: ",
        ),
        (["--objective", "realism", "--population", "0"], "must be 1 or more"),
        (["--objective", "realism", "--budget", "5"], "less than one generation"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(words, refusal, monkeypatch, capsys):
    code, _, err = run(monkeypatch, capsys, "search", "city", *words)
    assert code == 2
    assert refusal in err
    assert err.count("\n") == 1
