"""A text GAN with an encoder that is trained first: found again, asked in words, read by another network."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import tomli_w
import torch
from torch.nn import functional as F

from safelight.config import UserError
from safelight.data.synthetic import shapes
from safelight.engine.distributed import World, alone
from safelight.evaluate import scenes
from safelight.language import open_encoder
from safelight.loading.dependencies import folder, products_of
from safelight.loading.prepare import prepare
from safelight.loading.replay import Replay
from safelight.randomness import RowDraw
from safelight.recipe import load
from safelight.run import Run
from safelight.store import metrics
from safelight.training.progress import Show
from safelight.training.stages import train_stages
from safelight.types import Moment

SMALL = {
    "data.source": "shapes",
    "data.text_encoder": "words",
    "train.steps": 2,
    "train.batch_size": 4,
    "train.precision": "fp32",
    "train.memory_format": "contiguous",
    "train.device": "cpu",
    "check.before_training": False,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """Two steps of a text GAN, after two of its encoder."""
    home = tmp_path_factory.mktemp("text")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "COUNT", 60)
        patch.setenv("SAFELIGHT_CACHE", str(home / "cache"))
        stage = home / "encoder.toml"
        widths = {"network.image.widths": [4, 8], "network.image.features": 6, "network.text.features": 6}
        stage.write_text(tomli_w.dumps(load("captions-encoder", {**SMALL, **widths}).tree))
        changes = {
            **SMALL,
            "data.text_encoder": f"recipe:{stage}",
            "network.encoder": {"name": "joint_encoder", "path": f"recipe:{stage}"},
            "network.generator.base": 64,
            "network.discriminator.base": 64,
            "loss.weights.con_g_encoder": 1.0,
            "watch.images": 12,
        }
        directory = train_stages(load("shapes-captions", changes), home / "runs", "t", World(), Show)
        yield Run(directory)


def test_the_encoder_is_trained_once_for_both_that_name_it(run):
    products = products_of(run.directory)
    assert set(products) == {"data.text_encoder", "network.encoder.path"}
    (name,) = {product.run for product in products.values()}
    assert sorted(path.name for path in run.directory.path.parent.iterdir() if path.is_dir()) == sorted(
        [name, "t"]
    )


def test_frozen_weights_are_those_of_the_encoders_averages_and_are_not_saved(run):
    stage = Run(products_of(run.directory)["network.encoder.path"].directory)
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        expected = F.normalize(stage.model.nets["image"](x), dim=1)
        assert torch.equal(run.model.nets["encoder"](x), expected)
    assert not run.model.nets["encoder"].training
    assert not any(tensor.requires_grad for tensor in run.model.nets["encoder"].parameters())
    assert not any(key.startswith("encoder.") for key in Replay(run.directory).state.groups()["networks"])
    texts = ["a red circle"]
    encoded = open_encoder(folder(products_of(run.directory)["data.text_encoder"])).encode(texts)
    with torch.no_grad():
        tensor = F.normalize(
            stage.model.nets["text"](torch.from_numpy(open_encoder("words").encode(texts))), dim=1
        )
    np.testing.assert_allclose(encoded, tensor.numpy(), atol=1e-6)


def test_features_of_real_images_are_computed_once_and_change_no_loss(run, monkeypatch):
    settings = {"method.language_free": 0.5, "loss.weights.image_encoder": 1.0, "data.flip": True}
    products = products_of(run.directory)
    assert prepare(run.recipe, World(), products=products).stream.features is None  # nothing asks for them
    recipe = run.recipe.with_changes(settings)
    prepare(recipe, World(), products=products)
    monkeypatch.setattr("safelight.data.encoded._compute", None)  # a second time it is not called
    ready = prepare(recipe, World(), products=products)
    state, weights = ready.state("contiguous"), {**recipe.weights, "image_encoder": 1.0}
    batches = [stream.batch(2, range(4)) for stream in (ready.stream, ready.stream.with_features(None))]
    kept, bare = batches
    torch.testing.assert_close(kept.features, state.nets["encoder"](bare.x))
    assert bare.features is None
    straight = recipe.with_changes({"data.flip": False})
    other = prepare(straight, World(), products=products).stream.batch(2, range(4))
    assert not torch.equal(other.features, kept.features)  # some are mirrored
    for phase in ready.method.phases:
        losses = [
            phase.losses(
                state.nets, batch,
                Moment(2, RowDraw(0, 2, phase.name, range(4)), state.memory, weights, alone, nullcontext),
            )[0]
            for batch in batches
        ]  # fmt: skip
        assert losses[0].keys() == losses[1].keys()
        for name, values in losses[0].items():
            torch.testing.assert_close(values, losses[1][name], rtol=1e-4, atol=1e-5)


def test_words_are_a_condition_and_the_same_words_the_same_image(run):
    first, alike = "a red circle left of a blue square", "the red circle is left of the blue square"
    near, other, far = (run.sample(3, text=words) for words in (first, alike, "a green diamond"))
    assert np.array_equal(near.images, other.images)
    assert not np.array_equal(near.images, far.images)
    assert not np.array_equal(near.images[0], near.images[1])
    with pytest.raises(UserError, match=r"condition text=.*npy: there is no such file"):
        run.sample(1, text="features.npy")


def test_sheets_have_a_row_for_each_prompt_and_shares_are_logged(run):
    assert len(run.recipe.watch.prompts) == 6
    assert [path.name for path in sorted(run.directory.sheets.iterdir())] == ["00000002.png"]
    columns = metrics.read(run.directory.path)
    shares = {name: column[-1] for name, column in columns.items() if name.startswith("share/")}
    assert {"share/generator/g", "share/generator/con_g_encoder", "share/discriminator/d"} <= set(shares)
    for network in ("generator", "discriminator"):
        total = sum(value for name, value in shares.items() if name.startswith(f"share/{network}/"))
        assert total == pytest.approx(1)


def test_an_evaluation_reads_texts_seen_and_unseen(run, monkeypatch):
    monkeypatch.setattr(scenes, "STEPS", 2)
    scores = run.evaluate(20, "reader")
    assert scores.results["diversity of one text"].value > 0
    for name in ("alignment", "alignment of colours", "alignment of shapes", "alignment of places"):
        assert 0 <= scores.results[name].value <= 1
        assert scores.results[f"{name} unseen"].floor is not None
    assert "reader" in scores.basis["texts"]


def test_an_encoder_that_draws_nothing_says_so(run):
    stage = Run(products_of(run.directory)["network.encoder.path"].directory)
    with pytest.raises(UserError, match="cannot generate images"):
        stage.sample(1)
    assert list(stage.directory.panels.glob("*retrieval.png"))
