"""Each act of the page by a real click: the command it shows is run, and the store holds what it did."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the page needs the extra web")
pytest.importorskip("playwright", reason="the tests in a browser need the extra browser")

from playwright import sync_api

from in_browser import another
from safelight.config import flatten
from safelight.store import checkpoint_files, inbox, sealed
from safelight.store.directory import RunDirectory
from safelight.store.journal_writer import JournalWriter

VERDICT = {"name": "not finite or spike", "begins": True, "step": 25, "rescue": 10,
           "measured": "2 of 10 steps", "expected": "none"}  # fmt: skip


@pytest.fixture(scope="module")
def folder(finished, tmp_path_factory) -> Path:
    """Runs that the acts below change, one each; "sick" was cut off after its monitor spoke."""
    runs = tmp_path_factory.mktemp("acts") / "runs"
    whole = shutil.copytree(finished.path, runs / "whole")
    another(whole, "back")
    full = RunDirectory(another(whole, "full"))
    with full.lock(), JournalWriter(full.journal_path) as writer:
        writer.intervene("keep", 30, {"checkpoint.keep": 1}, "cli")  # or the three newest stay
    sick = RunDirectory(another(whole, "sick"))
    lines = sick.journal_path.read_bytes().splitlines(keepends=True)
    sick.journal_path.write_bytes(b"".join(line for line in lines if b'"kind":"end"' not in line))
    with sick.lock(), JournalWriter(sick.journal_path) as writer:
        writer.append("verdict", VERDICT)
    return runs


def finish(page: sync_api.Page, command: str) -> None:
    """The newest job is of this command, as far as it is named, and ends well."""
    job = page.locator(".job").last
    sync_api.expect(job.locator("code")).to_contain_text(command)
    sync_api.expect(job.locator(".status")).to_have_text("done")


def kinds(run: Path) -> list[str]:
    return [entry.kind for entry in RunDirectory(run).journal().entries]


def test_an_edit_goes_from_a_click_to_the_inbox(tab, folder):
    page = tab.page
    tab.open("/run/whole?step=20")
    page.get_by_role("button", name="Fork", exact=True).click()
    page.get_by_label("train it now").uncheck()
    page.get_by_label("name", exact=True).fill("calmer")
    shown = "safelight fork whole --step 20 --name calmer --no-train"
    sync_api.expect(page.locator(".acts code")).to_have_text(shown)
    page.get_by_role("button", name="Fork step 20").click()
    page.wait_for_url("**/run/calmer")
    sync_api.expect(page.locator("h1")).to_have_text("calmer")
    assert RunDirectory(folder / "calmer").info().parent.step == 20
    page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_role("button", name="Half of optim.lr").click()
    page.get_by_role("button", name="Edit from the next step on").click()
    sync_api.expect(page.locator(".acts")).to_contain_text("1 edit waits")
    (edit,) = inbox.waiting(folder / "calmer")
    assert json.loads(edit.read_text())["changes"].keys() == {"optim.lr"}
    tab.open("/jobs")
    sync_api.expect(page.locator(".job").nth(1)).to_contain_text(shown)
    sync_api.expect(page.locator(".job > p > .status")).to_have_text(["done", "done"])


def test_a_checkpoint_is_pinned_and_others_are_pruned_after_a_look(tab, folder):
    page, run = tab.page, folder / "full"
    tab.open("/run/full?step=20")
    page.get_by_role("button", name="Pin", exact=True).click()
    page.get_by_label("name", exact=True).fill("calm")
    page.get_by_role("button", name="Pin step 20").click()
    sync_api.expect(page.locator(".acts")).to_contain_text("Pinned: calm (step 20)")
    finish(page, "safelight pin full --step 20 --name calm")
    assert checkpoint_files.read_pins(run)["calm"].step == 20
    assert kinds(run)[-1] == "pin"
    tab.open("/run/full/disk")
    page.get_by_label("to a budget of").fill("1 KB")
    page.get_by_role("button", name="Show what would go").click()
    sync_api.expect(page.locator("form")).to_contain_text("would be freed")
    assert checkpoint_files.list_steps(run) == [10, 20, 30]
    page.get_by_role("button", name="Free ").click()
    finish(page, "safelight prune full --budget '1 KB'")
    assert checkpoint_files.list_steps(run) == [20, 30]
    sync_api.expect(page.locator("table").last.locator("tbody tr")).to_have_count(2)


def test_a_run_is_rolled_back_and_kept_as_it_was(tab, folder):
    page = tab.page
    tab.open("/run/back?step=10")
    page.get_by_role("button", name="Roll back", exact=True).click()
    page.get_by_label("train it now").uncheck()
    sync_api.expect(page.locator(".acts code")).to_have_text("safelight rollback back --step 10 --no-train")
    page.get_by_role("button", name="Roll back to step 10").click()
    sync_api.expect(page.locator(".head.run")).to_contain_text("forked")
    before, after = RunDirectory(folder / "back-before-10"), RunDirectory(folder / "back")
    assert checkpoint_files.list_steps(before.path) == [10, 20, 30]
    assert (after.info().parent.run, after.info().parent.step) == (before.info().id, 10)


def test_a_verdict_is_ignored_or_answered_by_a_fork_with_its_remedy(tab, folder):
    page, run = tab.page, folder / "sick"
    tab.open("/run/sick/health")
    sync_api.expect(page.locator(".finding dl")).to_contain_text("2 of 10 steps")
    page.get_by_role("button", name="Ignore this").click()
    finish(page, "safelight tune sick 'monitor.ignore=")
    (edit,) = inbox.waiting(run)
    assert json.loads(edit.read_text())["changes"] == {"monitor.ignore": ["not finite or spike"]}
    edit.unlink()
    remedy = page.locator(".remedies li").first
    shown = remedy.locator("code").inner_text()
    remedy.get_by_role("button", name="Fork step 10 with it").click()
    sync_api.expect(page.locator(".job code")).to_have_text(shown)
    finish(page, "safelight fork sick --step 10 optim.lr=")
    fork = next(each for each in map(RunDirectory, folder.iterdir())
                if each.info().parent and each.info().parent.run == RunDirectory(run).info().id)  # fmt: skip
    assert fork.info().parent.step == 10
    assert (RunDirectory(fork.path).journal().of_kind("end")[-1].fields)["step"] == 30
    rates = [flatten(RunDirectory(path).recipe_tree())["optim.lr"] for path in (fork.path, run)]
    assert rates[0] == pytest.approx(rates[1] / 2)


def test_a_finished_run_is_trained_longer(tab, folder):
    page, run = tab.page, RunDirectory(another(folder / "whole", "longer"))
    tab.open("/run/longer")
    page.get_by_role("button", name="Train longer").click()
    page.get_by_label("until step").fill("32")
    sync_api.expect(page.locator(".acts code")).to_have_text("safelight resume longer --steps 32")
    page.locator(".acts form").get_by_role("button", name="Train longer").click()
    finish(page, "safelight resume longer --steps 32")
    assert run.journal().of_kind("end")[-1].fields["step"] == 32
    assert checkpoint_files.list_steps(run.path)[-1] == 32


def test_a_checkpoint_is_evaluated(tab, folder):
    page = tab.page
    tab.open("/run/whole/measure")
    page.get_by_label("samples").fill("20")
    page.get_by_role("button", name="Evaluate", exact=True).click()
    finish(page, "safelight evaluate whole --step 30 --n 20")
    (path,) = (folder / "whole" / "evaluations").glob("*.json")
    stored = sealed.read(path)
    row = page.locator("table tbody tr").first
    sync_api.expect(row.locator("th")).to_have_text("FD-classifier")
    assert float(row.locator("b").inner_text()) == pytest.approx(
        stored["results"]["FD-classifier"]["value"], rel=1e-3
    )


def test_specimens_are_kept_and_filmed(tab, folder):
    page, run = tab.page, folder / "whole"
    tab.open("/run/whole/specimens")
    page.get_by_role("button", name="Draw 24 of step 30").click()
    page.get_by_role("button", name="Specimen 30.3", exact=True).click()
    page.get_by_role("button", name="Keep", exact=True).click()
    finish(page, "safelight specimens whole --keep 30.3")
    assert (run / "specimens" / "30.3.json").exists()
    sync_api.expect(page.locator(".kept figcaption")).to_have_text("30.3")
    page.get_by_role("button", name="Film through training").click()
    finish(page, "safelight film whole 30.3 --to 30 --every 1 --out film.mp4")
    scrubber, video = page.get_by_label("Place in the film"), page.locator("video")
    sync_api.expect(scrubber).not_to_have_attribute("max", "0")  # as long as the film
    scrubber.press("End")
    place, seconds = video.evaluate("video => [video.currentTime, video.duration]")
    assert seconds > 1
    assert place == pytest.approx(seconds, abs=0.05)


def test_sheets_are_bred_from_what_is_picked(tab, folder):
    page, search = tab.page, folder / "whole" / "searches" / "picking"
    tab.open("/run/whole/pick")
    page.get_by_role("button", name="Draw the first sheet").click()
    for candidate in (2, 5, 6):
        page.get_by_role("button", name=f"Candidate {candidate}", exact=True).click()
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("button", name="Breed the next sheet").click()
    finish(page, "safelight search whole --objective pick --picked 1.2,1.5 --name picking")
    sync_api.expect(page.locator(".sheet figcaption")).to_contain_text("sheet 2")
    assert sealed.read(search / "result.json")["sheet"] == 2
    assert (search / "sheet-2.png").exists()
    sync_api.expect(page.locator(".kept figure")).to_have_count(2)


def test_a_comparison_is_saved_as_one_file(tab, folder, tmp_path):
    page = tab.page
    tab.open("/side?run=back&run=full")
    with page.expect_download() as handed:
        page.get_by_role("button", name="Save page").click()
    handed.value.save_as(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "back" in text
    assert "<svg" in text
    assert "What differs" in text
    assert 'src="/' not in text
    assert not [*folder.glob("compare*")]
