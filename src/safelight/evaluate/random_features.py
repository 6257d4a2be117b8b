"""Features of a network of fixed random weights: nothing to download, to install or to train.

A random network keeps what its inputs differ in (Naeem 2020 measures with one): its distances tell colours,
edges and textures apart, and know nothing of what a picture shows. They are named after it, FD-random.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from safelight.evaluate.classifier import RULE, body, prepared
from safelight.evaluate.features import RANDOM, Extractor
from safelight.evaluate.training import initialised, weights_hash


def open_random(channels: int, device: torch.device) -> Extractor:
    """The body of the classifier with weights drawn once and for all, N(0, 2 / fan-in) (He 2015)."""

    def made() -> nn.Sequential:
        layers = body(channels)
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        return nn.Sequential(*layers)

    network = initialised(RANDOM, made).to(device).eval().requires_grad_(False)

    def see(pixels: Tensor) -> tuple[Tensor, None]:
        features: Tensor = network(prepared(pixels.to(device)))
        return features, None

    return Extractor(
        RANDOM, weights_hash(network), f"{RULE}; fixed random weights, which know no content", see, device
    )
