"""A model that trains in a second: the recipe digits-class, shrunk."""

from __future__ import annotations

TINY = {
    "train.steps": 30,
    "train.batch_size": 12,
    "train.precision": "fp32",
    "train.memory_format": "contiguous",
    "train.ema": 0.9,
    "train.ema_lengths": [0.1],
    "network.width": 4,
    "watch.every": 20,
    "watch.epochs": [],
    "watch.images": 10,
    "watch.held_out": 16,
    "checkpoint.every": 10,
    "sample.steps": 4,
    "monitor.warmup": 0.99,  # nothing so small is judged
}
