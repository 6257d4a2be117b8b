"""Films and specimens of a run: the same pictures whichever way they are made, and no weight changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.engine.loop import Signals
from safelight.explore import shooting
from safelight.explore.collection import collection, contact_sheet, keep_specimens
from safelight.explore.film import Making, through_training, walk
from safelight.explore.path import FilmSubject, take
from safelight.explore.shooting import Shot, pictures_of
from safelight.explore.specimens import Specimen
from safelight.loading.model import MATCHES, UNDAMAGED
from safelight.loading.recorded import spec_of
from safelight.loading.replay import Replay
from safelight.methods.denoise import Denoise
from safelight.methods.diffusion import Diffusion
from safelight.randomness import RowDraw
from safelight.recipe import load
from safelight.run import Run
from safelight.store import frames as segment
from safelight.store import metrics
from safelight.store.directory import RunDirectory
from safelight.store.frames import ReelReader
from safelight.training import session
from safelight.training.progress import Show
from safelight.training.start import begin, resume
from tiny import TINY

SHORT = TINY | {"train.steps": 12, "checkpoint.every": 6, "watch.every": 100, "sample.steps": 2}
FILMED = SHORT | {"watch.film": ["0.3", "7.1"], "watch.film_every": 2}
WATCHED = [Specimen(0, 3), Specimen(7, 1)]


@pytest.fixture(autouse=True, scope="module")
def _no_report():
    patch = pytest.MonkeyPatch()
    patch.setattr("safelight.training.start.write_report", lambda directory: directory.path)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDirectory:
    """12 steps, filmed live at every second, no tape; checkpoints at 6 and 12."""
    return begin(load("digits-class", FILMED), tmp_path_factory.mktemp("runs"), "city", World(), Show())


@pytest.fixture(scope="module")
def taped(tmp_path_factory) -> RunDirectory:
    """The same run, not filmed, with a tape of every third step."""
    changes = SHORT | {"tape.every": 3}
    return begin(load("digits-class", changes), tmp_path_factory.mktemp("runs"), "taped", World(), Show())


def fingerprints(run: RunDirectory) -> list[str]:
    return list(metrics.read(run.path)["fingerprint"])


def images(folder: Path) -> np.ndarray:
    """The frames of a film that was written as a folder."""
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])


def test_filming_changes_no_weight(run, taped):
    assert fingerprints(run) == fingerprints(taped)


def test_a_live_picture_is_the_one_taken_later(run, taped):
    """Pixel for pixel: from checkpoints and by replay, and from another run's tape."""
    reel = ReelReader(run.path)
    replay, other = Replay(run), Replay(taped)
    sources = set()
    for step in (0, 2, 6, 8, 12):
        model = replay.rounded(step)
        sources.add(model.source)
        for specimen in WATCHED:
            np.testing.assert_array_equal(take(model, FilmSubject(specimen)), reel.read(step, str(specimen)))
    assert sources == {"checkpoint", "replay"}
    for step in (0, 6, 12):
        model = other.rounded(step)
        assert model.source == "tape"
        for specimen in WATCHED:
            np.testing.assert_array_equal(take(model, FilmSubject(specimen)), reel.read(step, str(specimen)))


def test_a_run_that_is_cut_off_films_every_step_once_and_equally(run, tmp_path, monkeypatch):
    """Steps 7 and 8 are filmed twice; the pictures of the later session are as good as the earlier's."""
    whole = session.Session._boundary

    def cut(self: session.Session, agreed: Signals) -> None:
        whole(self, agreed)
        if self.state.step == 9:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(session.Session, "_boundary", cut)
        with pytest.raises(KeyboardInterrupt):
            begin(load("digits-class", FILMED), tmp_path, "cut", World(), Show())
    again = resume(RunDirectory(tmp_path / "cut"), World(), Show())
    assert len(segment.files(again.path, segment.REEL)) == 2
    mine, wholly = ReelReader(again.path), ReelReader(run.path)
    assert mine.steps("0.3") == wholly.steps("0.3") == list(range(0, 13, 2))
    for step in mine.steps("0.3"):
        for specimen in map(str, WATCHED):
            np.testing.assert_array_equal(mine.read(step, specimen), wholly.read(step, specimen))


def test_a_film_that_is_cut_off_and_restarted_has_every_frame_once(run, tmp_path, monkeypatch):
    taken: list[int] = []

    def take_until(model, subject):
        if len(taken) == 5 and not restarted:
            raise KeyboardInterrupt
        taken.append(model.step)
        return take(model, subject)

    restarted: list[bool] = []
    monkeypatch.setattr(shooting, "take", take_until)
    making = Making(tmp_path / "film")
    with pytest.raises(KeyboardInterrupt):
        through_training(run, ["4.4"], making, 1, 11, 1)
    assert not making.out.exists()
    assert len(list(making.part.glob("0*.png"))) == 5
    restarted.append(True)
    film = through_training(run, ["4.4"], making, 1, 11, 1)
    assert sorted(taken) == list(range(1, 12))
    assert [shot.step for shot in film.shots] == list(range(1, 12))
    assert not making.part.exists()
    whole = through_training(run, ["4.4"], Making(tmp_path / "whole"), 1, 11, 1)
    assert len(images(film.out)) == 11
    np.testing.assert_array_equal(images(film.out), images(whole.out))
    assert whole.sources.verdict == MATCHES  # of the step that has a checkpoint; the others are recomputed
    assert whole.sources.frames == {"replay": 10, "checkpoint": 1}


def test_several_processes_make_the_same_film(run, tmp_path):
    single = through_training(run, ["4.4", "0.3"], Making(tmp_path / "one"), 3, 12, 3)
    two = through_training(run, ["4.4", "0.3"], Making(tmp_path / "two", on="local:2"), 3, 12, 3)
    np.testing.assert_array_equal(images(single.out), images(two.out))
    assert single.sources == two.sources


def test_work_is_divided_where_that_costs_little():
    shots = [Shot(step, step, ()) for step in range(10)]
    at = {3, 4, 8}
    pieces = shooting._pieces(shots, 2, lambda before, shot: shot.step in at)
    assert [[shot.step for shot in piece] for piece in pieces] == [[0, 1, 2, 3], [4, 5, 6, 7, 8, 9]]
    assert shooting._pieces(shots, 4, lambda before, shot: False) == [shots]
    pieces = shooting._pieces(shots, 4, lambda before, shot: True)
    assert [shot for piece in pieces for shot in piece] == shots
    assert len(pieces) == 4


def test_by_default_a_film_takes_the_steps_that_are_there(run, taped, tmp_path):
    live = through_training(run, [], Making(tmp_path / "live.gif"))
    assert live.sources.frames == {"live": 7}
    assert [shot.step for shot in live.shots] == list(range(0, 13, 2))
    with Image.open(live.out) as gif:
        assert gif.n_frames == 7
    tape = through_training(taped, ["0.9"], Making(tmp_path / "tape.webp"), 1)
    assert tape.sources.frames == {"tape": 4}
    assert live.sources.verdict == tape.sources.verdict == UNDAMAGED  # no more than that is known of them
    assert [shot.step for shot in tape.shots] == [3, 6, 9, 12]


def test_a_damaged_live_picture_is_told_and_taken_again(run, tmp_path):
    (path,) = segment.files(run.path, segment.REEL)
    place, whole = segment.scan(path).places[2], path.read_bytes()
    lines: list[str] = []
    intact = through_training(run, [], Making(tmp_path / "intact"))
    try:
        path.write_bytes(
            whole[: place.offset + 6] + bytes([whole[place.offset + 6] ^ 1]) + whole[place.offset + 7 :]
        )
        film = through_training(run, [], Making(tmp_path / "film", tell=lines.append))
    finally:
        path.write_bytes(whole)
    assert film.sources.frames == {"live": 6, "replay": 1}
    assert any("the frame of step 4 is damaged" in line for line in lines)
    np.testing.assert_array_equal(images(film.out), images(intact.out))


def test_a_walk_meets_its_stops(run, tmp_path, monkeypatch):
    kept: list[np.ndarray] = []
    monkeypatch.setattr("safelight.explore.film.save_film", lambda frames, out, fps: kept.extend(frames))
    walk(run, ["6.1", "6.2", "6.3"], Making(tmp_path / "walk"), frames=5, step=6)
    model = Replay(run).rounded(6)
    for number, draw in ((0, 1), (2, 2), (4, 3)):
        picture = take(model, FilmSubject(Specimen(6, draw)))
        frame = np.asarray(kept[number])
        scale = len(frame) // len(picture)
        shrunk = frame[: len(picture) * scale : scale, : len(picture) * scale : scale, :1]
        assert np.abs(shrunk.astype(int) - picture).max() <= 1  # a sine of the end is not exactly 1
    assert not np.array_equal(kept[1], kept[0])


def test_a_walk_across_steps_goes_through_those_between(run, tmp_path):
    film = walk(run, ["2.1", "10.1", "6.0"], Making(tmp_path / "walk.gif"), frames=9)
    steps = [shot.step for shot in film.shots]
    assert (steps[0], steps[4], steps[8]) == (2, 10, 6)
    assert steps[:5] == sorted(steps[:5])
    assert steps[4:] == sorted(steps[4:], reverse=True)


def test_a_sheet_shows_what_the_collection_keeps(run, tmp_path):
    from safelight.render.sheet_file import read_sheet

    ids, reached = contact_sheet(run, tmp_path / "sheet.png", 9, 4, first=2)
    assert ids == ["9.2", "9.3", "9.4", "9.5"]
    assert (reached.step, reached.source, reached.verdict.verdict) == (9, "replay", "exact")
    keep_specimens(run, ["9.4", "6.0"])
    assert [specimen.id for specimen in collection(run)] == ["6.0", "9.4"]
    picture = np.asarray(Image.open(run.path / "specimens" / "9.4.png"))
    np.testing.assert_array_equal(read_sheet(tmp_path / "sheet.png")[2, :, :, 0], picture)
    path = run.path / "specimens" / "9.4.json"
    path.write_text(path.read_text().replace("exact", "hoped"))
    with pytest.raises(UserError, match="is damaged"):
        collection(run)


def test_a_folder_of_other_pictures_is_not_mixed_in(run, tmp_path, monkeypatch):
    folder = tmp_path / "part"
    first, second = ([Shot(0, step, (FilmSubject(WATCHED[0]),))] for step in (2, 4))
    shooting.shoot(run, first, folder, {})
    before = pictures_of(folder, first[0])
    shooting.shoot(run, second, folder, {})
    assert not np.array_equal(before, pictures_of(folder, second[0]))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "000000.png").write_bytes(b"holiday")
    with pytest.raises(UserError, match="holds other files"):
        shooting.shoot(run, first, tmp_path / "mine", {})


@pytest.mark.parametrize(
    ("ids", "options", "message"),
    [
        (["4"], {}, r"specimen '4': expected STEP\.DRAW"),
        (["0.3"], {"end": 13}, "steps 0 to 13: city has recorded the steps 0 to 12"),
        (["0.3"], {"begin": 9, "end": 8}, "steps 9 to 8"),
    ],
)
def test_a_film_that_cannot_be_is_told(run, tmp_path, ids, options, message):
    with pytest.raises(UserError, match=message):
        through_training(run, ids, Making(tmp_path / "film.gif"), **options)
    with pytest.raises(UserError, match=r"unknown output type; use \.mp4"):
        through_training(run, ["0.3"], Making(tmp_path / "film.avi"))
    with pytest.raises(UserError, match="name two specimens"):
        walk(run, ["0.3"], Making(tmp_path / "walk.gif"))


@pytest.mark.parametrize("weights", [{"raw": True}, {"ema_length": 0.1}])
def test_a_film_of_other_weights_has_the_pictures_of_the_run_opened_with_them(run, tmp_path, weights):
    """At the steps of checkpoints: neither the live film nor a tape holds these weights."""
    made = through_training(run, ["0.3"], Making(tmp_path / "film", **weights))
    assert ([shot.step for shot in made.shots], made.sources.frames) == ([6, 12], {"checkpoint": 2})
    shot = Shot(0, 12, (FilmSubject(WATCHED[0]),))
    shooting.shoot(run, [shot], tmp_path / "frames", {}, **weights)
    (picture,) = pictures_of(tmp_path / "frames", shot)
    assert (picture == take(Run(run, 12, **weights).model, shot.subjects[0])).all()
    assert (picture != take(Replay(run).rounded(12), shot.subjects[0])).any()


def test_weights_as_trained_have_no_length(run, tmp_path):
    making = Making(tmp_path / "film", raw=True, ema_length=0.1)
    with pytest.raises(UserError, match="raw weights are no average"):
        through_training(run, ["0.3"], making)
    with pytest.raises(UserError, match="raw weights are no average"):
        Run(run, raw=True, ema_length=0.1)
    assert not list(tmp_path.iterdir())


def test_runs_of_different_recipes_start_from_the_same_noise(run, tmp_path, monkeypatch):
    """That of the sheets of the other run, row by row; a run of another size is one line."""
    changes = {"train.steps": 1, "train.batch_size": 4, "network.width": 4, "watch.seed": 5}
    other = begin(load("digits-denoise", changes), run.path.parent, "one-step", World(), Show())
    seen = []
    for kind in (Diffusion, Denoise):
        sample = kind.sample

        def watched(self, nets, latent, *rest, sample=sample):
            seen.append(latent)
            return sample(self, nets, latent, *rest)

        monkeypatch.setattr(kind, "sample", watched)
    Run(run).sample(3, same_noise_as="one-step")
    Run(other).sample(3, seed=5)
    assert torch.equal(*seen)
    seen.clear()
    Run(run).sample(3)
    assert not torch.equal(seen[0], RowDraw(5, 0, "sample", range(3)).normal("latent", 1, 28, 28))
    specs = {"city": spec_of(run), "one-step": replace(spec_of(other), shape=(1, 20, 28))}
    monkeypatch.setattr("safelight.explore.samples.spec_of", lambda of: specs[of.name])
    with pytest.raises(UserError, match="it starts from 1 x 20 x 28 numbers, city from 1 x 28 x 28; name"):
        Run(run).sample(3, same_noise_as="one-step")
