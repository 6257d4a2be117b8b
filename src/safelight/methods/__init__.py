"""Families of generators, one file each; a file here is all it takes to add one."""

from __future__ import annotations

from typing import Protocol

from torch import nn

from safelight.types import DataSpec


class NetworkConfig(Protocol):
    """The section of a recipe that describes one network, and builds it.

    A fully convolutional one also says in `multiple` what sides of images have to divide by; it takes images
    of any such size, whatever size it was built for, which data.buckets and samples of other sizes need.
    """

    def build(self, spec: DataSpec) -> nn.Module: ...
