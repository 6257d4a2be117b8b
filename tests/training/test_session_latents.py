"""The whole path of latent diffusion on a tiny scale: an autoencoder first, then a model of its latents."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tomli_w
import torch
import torch.nn.functional as F
from PIL import Image

from forks import Forks, serving
from safelight.config import UserError
from safelight.data.space import Codec, Space
from safelight.engine.distributed import World
from safelight.loading.dependencies import products_of
from safelight.loading.replay import Replay
from safelight.randomness import RowDraw
from safelight.recipe import load
from safelight.run import Run
from safelight.store import metrics, results
from safelight.store.directory import RunDirectory, names
from safelight.store.listing import summary
from safelight.training.progress import Show
from safelight.training.stages import train_stages
from safelight.types import Condition, DataSpec

PLAIN = {"train.precision": "fp32", "train.memory_format": "contiguous"}
TINY = PLAIN | {
    "data.source": "arrays",
    "data.balance": [1.0, 1.0, 1.0],
    "data.turn": "quarter",
    "network.width": 8,
    "network.embedding": 16,
    "network.middle": 1,
    "train.batch_size": 8,
    "train.steps": 6,
    "watch.every": 3,
    "watch.images": 4,
    "watch.held_out": 4,
    "checkpoint.every": 3,
    "sample.steps": 2,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with data, a mask, and the recipe of a tiny autoencoder."""
    folder = tmp_path_factory.mktemp("latents")
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 3, (60, 4, 4)).astype(np.uint8).repeat(4, 1).repeat(4, 2)
    images = (40 + 80 * ids[..., None] + rng.integers(0, 40, (60, 1, 1, 3))).astype(np.uint8)
    np.savez(folder / "all.npz", images=images, mask=ids)
    Image.fromarray(ids[0]).save(folder / "mask.png")
    changes = PLAIN | {
        "network.encoder.latent": 4,
        "network.encoder.widths": [4, 8],
        "network.decoder.widths": [8, 4],
        "network.encoder.groups": 2,
        "network.decoder.groups": 2,
        "train.steps": 20,
        "train.batch_size": 8,
        "watch.held_out": 4,
        "watch.images": 4,
    }
    (folder / "ae.toml").write_text(tomli_w.dumps(load("skin-autoencoder", changes).tree))
    return folder


def changes(place: Path, **more: object) -> dict[str, object]:
    settings = {
        "data.path": str(place / "all.npz"),
        "data.latents.autoencoder": f"recipe:{place / 'ae.toml'}",
    }
    return TINY | settings | more


@pytest.fixture(scope="module")
def run(place: Path) -> RunDirectory:
    """A model of latents, trained after its autoencoder."""
    return train_stages(load("skin-small", changes(place)), place / "runs", "main", World(), Show)


def test_an_autoencoder_first_then_a_model_of_its_latents(run, place):
    assert summary(run).status == "finished"
    product = products_of(run)["data.latents.autoencoder"]
    assert set(names(place / "runs")) == {"main", product.run}
    latents = run.info().facts.data["latents"]
    assert latents["shape"] == [4, 8, 8]
    assert len(latents["scale"]) == 4
    assert sum(run.info().facts.data["mask_shares"]) == pytest.approx(1)
    assert (run.panels / "00000006-masks.png").is_file()
    assert (run.sheets / "00000006.png").is_file()
    assert "Share of the training pixels: class 0" in (run.path / "report.md").read_text()
    assert all(np.isfinite(metrics.read(run.path)["raw/mse"]))


def test_its_steps_are_reached_again_bit_for_bit(run):
    (run.path / "checkpoints" / "00000006").rename(run.path / "aside")
    try:
        verdict = Replay(run).go_to(6)
    finally:
        (run.path / "aside").rename(run.path / "checkpoints" / "00000006")
    assert (verdict.verdict, verdict.start, verdict.checked) == ("exact", 3, 3)


def test_samples_follow_a_mask_of_a_file_and_a_canvas_is_larger(run, place):
    opened = Run(run)
    samples = opened.sample(3, mask=str(place / "mask.png"))
    assert samples.images.shape == (3, 16, 16, 3)
    large = opened.sample(2, mask=str(place / "mask.png"), canvas=(16, 40))
    assert large.images.shape == (2, 16, 40, 3)
    with pytest.raises(UserError, match="say which mask it is to follow"):
        opened.sample(1, canvas=(16, 40))


def test_an_evaluation_tells_how_masks_are_obeyed(run, monkeypatch):
    monkeypatch.setattr("safelight.evaluate.segmenter.FEWEST", 640)
    measured = Run(run).evaluate(24)
    assert measured.extractor == "segmenter"
    assert {"FD-segmenter", "mask IoU", "IoU of 0", "IoU of 2"} <= measured.results.keys()
    assert 0 <= measured.results["mask IoU"].value <= 1
    assert measured.results["mask IoU"].floor is not None
    results.store(run.path, measured.name, measured.to_dict())


def test_estimates_of_latents_may_not_be_clipped(place):
    with pytest.raises(UserError, match=r"sample\.clip: latents are not bounded"):
        train_stages(
            load("skin-small", changes(place, **{"sample.clip": True})), place / "runs", "c", World(), Show
        )


# --- the identity, route by route -----------------------------------------------------------------


def codecs(run: RunDirectory, place: Path) -> dict[str, Codec]:
    """An autoencoder trained here, one of diffusers, and one that loses nothing."""
    codec = Run(run).model.space.codec
    assert codec is not None
    lossless = Codec("lossless", "", 12, 2, lambda x: (F.pixel_unshuffle(x, 2),) * 2,
                     lambda z: F.pixel_shuffle(z, 2))  # fmt: skip
    return {"own": codec, "lossless": lossless}


@pytest.mark.parametrize("process", ["flow", "ddpm"])
@pytest.mark.parametrize("sampler", ["euler", "heun", "ddim", "ancestral", "dpmpp_2m", "unipc", "ipndm"])
def test_what_a_perfect_network_samples_is_decoded_to_the_very_image(run, place, process, sampler):
    """Encode, scale, sample, invert, decode: the identity within the autoencoder's own error."""
    images = np.load(place / "all.npz")["images"][:3]
    pixels = torch.from_numpy(images.copy())
    for name, codec in codecs(run, place).items():
        space = Space(codec, tuple(0.1 * c for c in range(codec.channels)), (1.7,) * codec.channels)
        wanted = space.from_pixels(pixels)
        recipe = load("skin-small", {"method.process": process, "method.prediction": "x0",
                                     "sample.sampler": sampler, "sample.steps": 8})  # fmt: skip
        method = recipe.method()
        method.shape = tuple(wanted.shape[1:])
        nets = {"denoiser": lambda x_t, t, given, present, wanted=wanted: wanted}
        draw = RowDraw(0, 0, "sample", range(3))
        x = method.sample(
            nets, method.latent(draw), {}, torch.zeros(3, dtype=torch.bool), draw, recipe.sample
        )
        lost = space.to_pixels(space.from_pixels(pixels)).astype(int)  # by the autoencoder alone
        assert np.abs(space.to_pixels(x).astype(int) - lost).max() <= 1, name
        if name == "lossless":
            np.testing.assert_array_equal(lost, images)


@pytest.mark.filterwarnings("ignore")
def test_a_diffusers_autoencoder_by_path_is_another_route(place):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(block_out_channels=(4, 8), layers_per_block=1, norm_num_groups=2,
                                  down_block_types=("DownEncoderBlock2D",) * 2,
                                  up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4)  # fmt: skip
    vae.save_pretrained(place / "pretrained")
    recipe = load("skin-small", changes(place, **{
        "data.latents.autoencoder": str(place / "pretrained"), "data.latents.scale": 0.18215,
        "data.latents.shift": 0.0, "train.steps": 3}))  # fmt: skip
    lines: list[str] = []
    trained = train_stages(recipe, place / "runs", "pretrained", World(), lambda: Show(tell=lines.append))
    assert any("scale 0.1822, 0.1822" in line and "0.18215" in line for line in lines)
    opened = Run(trained)
    pixels = torch.from_numpy(np.load(place / "all.npz")["images"][:2].copy())
    x = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        posterior = vae.eval().encode(x).latent_dist
        decoded = vae.decode(posterior.mean).sample
    torch.testing.assert_close(opened.model.space.from_pixels(pixels), posterior.mean * 0.18215)
    levels = ((decoded + 1) * 127.5).round().clamp(0, 255).permute(0, 2, 3, 1).numpy()
    assert np.abs(opened.model.space.to_pixels(opened.model.space.from_pixels(pixels)) - levels).max() <= 1
    (place / "pretrained" / "diffusion_pytorch_model.safetensors").write_bytes(b"other")
    with pytest.raises(UserError, match="has other weights than the run began with"):
        products_of(trained)


# --- for other tools ------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_diffusers_opens_the_autoencoder_and_gives_equal_outputs(run, tmp_path):
    diffusers = pytest.importorskip("diffusers")
    opened = Run(run)
    stage = Run(products_of(run)["data.latents.autoencoder"].directory)
    stage.export("diffusers", tmp_path / "vae")
    theirs = diffusers.AutoencoderKL.from_pretrained(tmp_path / "vae")
    z, x = torch.randn(2, 4, 8, 8), torch.rand(2, 3, 16, 16) * 2 - 1
    codec = opened.model.space.codec
    with torch.no_grad():
        torch.testing.assert_close(theirs.decode(z).sample, codec.decode(z), rtol=1e-5, atol=1e-5)
        posterior = theirs.encode(x).latent_dist
        torch.testing.assert_close(posterior.mean, codec.encode(x)[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(posterior.std, codec.encode(x)[1], rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_diffusers_opens_the_pipeline_and_gives_equal_pixels(run, place, tmp_path):
    diffusers = pytest.importorskip("diffusers")
    opened = Run(run)
    opened.export("diffusers", tmp_path / "pipe")
    pipe = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "pipe", trust_remote_code=True)
    assert isinstance(pipe.vae, diffusers.AutoencoderKL)
    images = pipe(mask=str(place / "mask.png"), n=3, seed=5).images
    expected = opened.sample(3, seed=5, mask=str(place / "mask.png")).images
    np.testing.assert_array_equal(np.stack([np.asarray(image) for image in images]), expected)


def test_safetensors_are_opened_by_their_plain_loader(run, tmp_path, monkeypatch):
    opened = Run(run)
    opened.export("safetensors", tmp_path / "plain")
    monkeypatch.syspath_prepend(str(tmp_path / "plain"))
    loader: dict[str, object] = {"__file__": str(tmp_path / "plain" / "load.py"), "__name__": "load"}
    exec((tmp_path / "plain" / "load.py").read_text(), loader)
    nets, facts = loader["load"]()
    mine = opened.model.nets["denoiser"].state_dict()
    assert all(torch.equal(mine[name], value) for name, value in nets["denoiser"].state_dict().items())
    assert facts["scale"] == list(opened.model.space.scale)
    with pytest.raises(UserError, match="exists already"):
        opened.export("safetensors", tmp_path / "plain")


@pytest.mark.filterwarnings("ignore")
def test_onnx_is_checked_against_torch(run, tmp_path):
    pytest.importorskip("onnxruntime")
    (line,) = Run(run).export("onnx", tmp_path / "onnx")
    assert line.startswith("denoiser.onnx: inputs x, t, mask, present; differs from torch by ")
    assert float(line.split(" by ")[1].split()[0]) < 1e-5


def test_what_diffusers_has_not_is_told(tmp_path, tiny):
    begun = train_stages(load("fashion-gan", GAN), tmp_path, "gan", World(), Show)
    with pytest.raises(UserError, match="diffusers has no architecture for the generator of gan"):
        Run(begun).export("diffusers", tmp_path / "out")
    with pytest.raises(
        UserError, match="--to pickle: is not a valid choice; use diffusers, safetensors, onnx"
    ):
        Run(begun).export("pickle", tmp_path / "out")


GAN = PLAIN | {
    "data.source": "digits", "train.steps": 1, "train.batch_size": 4, "watch.images": 10,
    "network.generator.widths": [8, 8], "network.discriminator.widths": [8, 8],
}  # fmt: skip


# --- several processes ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def forks(tmp_path_factory) -> Iterator[Forks]:
    with serving(tmp_path_factory.mktemp("forks")) as server:
        yield server


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_processes_train_the_first_stage_together(forks, place, tmp_path):
    words = [f"{name}={json.dumps(value)}" for name, value in changes(place).items()]
    launch = forks.run(
        "forks:command", ["train", "skin-small", *words, "--name", "b", "--runs", str(tmp_path)], 2
    )
    assert "b: finished, step 6 of 6" in launch.out(0)
    product = products_of(RunDirectory(tmp_path / "b"))["data.latents.autoencoder"]
    stage = RunDirectory(tmp_path / str(product.run))
    assert stage.info().facts.environment["processes"] == 2
    assert summary(stage).status == "finished"


def test_conditions_of_latents_are_masks_of_their_size():
    spec = DataSpec((4, 8, 8), {"mask": Condition("mask", 3)})
    assert load("skin-small").method().networks(spec)["denoiser"].stem.weight.shape[1] == 7
