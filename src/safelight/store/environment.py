"""Comparing what two sessions computed with, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safelight.config import flatten

# Recorded since a later version: where an older session has none of them, nothing is known to differ.
LATER = ("deterministic", "tf32", "cudnn_benchmark", "cublas_workspace", "fill_uninitialized")


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two fingerprints, one phrase a fact, by name; empty if nothing does.

    `differences({"threads": 1}, {"threads": 2}) == ["threads: 1, now 2"]`
    """
    old, new = flatten(before), flatten(now)
    phrases = []
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            phrases.append(f"{name}: {old[name]}, now unknown")
        elif name not in old:
            phrases += [] if name in LATER else [f"{name}: unknown, now {new[name]}"]
        elif old[name] != new[name]:
            phrases.append(f"{name}: {old[name]}, now {new[name]}")
    return phrases
