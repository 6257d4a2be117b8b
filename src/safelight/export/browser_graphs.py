"""The networks of a run as ONNX graphs for a page that draws by itself, their weights apart."""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from safelight.config import UserError
from safelight.data.space import Space
from safelight.export.onnx import Flat, export_graph
from safelight.loading.model import Model
from safelight.methods.diffusion import Diffusion
from safelight.randomness import RowDraw

WEIGHTS = "weights"  # the name under which a graph looks for them


class Direct(nn.Module):
    """A generator of one evaluation: whatever its method makes of a latent. Noise it draws is an input."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.nets = nn.ModuleDict(dict(model.nets))
        self.method, self.how, self.conditions = model.method, model.how, list(model.spec.conditions)
        self.noises: dict[str, tuple[int, ...]] = {}
        draw = _Recorded(RowDraw(0, 0, "shape", range(1)), self.noises)
        latent = model.method.latent(RowDraw(0, 0, "shape", range(1)))
        given, present = _some(model, 1)
        with torch.no_grad():
            self.method.sample(dict(self.nets.items()), latent, given, present, draw, self.how)

    @property
    def inputs(self) -> list[str]:
        return ["latent", *self.conditions, "present", *self.noises]

    def forward(self, *inputs: Tensor) -> Tensor:
        values = dict(zip(self.inputs, inputs, strict=True))
        given = {name: values[name] for name in self.conditions}
        return self.method.sample(
            dict(self.nets.items()), values["latent"], given, values["present"], _Given(values), self.how
        )


@dataclass
class _Recorded:
    """A `Draw` that notes the normals it is asked for."""

    draw: RowDraw
    noises: dict[str, tuple[int, ...]]

    def normal(self, name: str, *shape: int) -> Tensor:
        self.noises[name] = shape
        return self.draw.normal(name, *shape)

    def uniform(self, name: str, *shape: int, host: bool = False) -> Tensor:
        raise UserError("its sampling draws uniform numbers, which a page cannot")

    def integers(self, name: str, high: int, *shape: int) -> Tensor:
        raise UserError("its sampling draws whole numbers, which a page cannot")


class _Given(_Recorded):
    """A `Draw` of what a graph is given."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        self.values = values

    def normal(self, name: str, *shape: int) -> Tensor:
        return self.values[name]


class Decoded(nn.Module):
    """Pixels in [-1, 1] of what a method drew in the latents of an autoencoder."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space

    def forward(self, *inputs: Tensor) -> Tensor:
        assert self.space.codec is not None
        return self.space.codec.decode(self.space.latent(inputs[0]))


def network_of(model: Model) -> Any:
    """What a page runs: the denoiser of a diffusion, else the method's whole sampling."""
    for net in model.nets.values():
        net.cpu().float().eval()
    method: Any = model.method
    if isinstance(method, Diffusion):
        return Flat(model.nets["denoiser"], "denoiser", list(model.spec.conditions))
    return Direct(model).eval()


def graphs_of(model: Model, net: Any) -> dict[str, Any]:
    """The network without its weights; and the decoder of latents with them, where there is one."""
    count = 2
    given, present = _some(model, count)
    draw = RowDraw(0, 0, "example", range(count))
    latent = model.method.latent(draw)
    noises = getattr(net, "noises", {})
    values = {"x": latent, "latent": latent, "t": draw.uniform("t"), "present": present, **given}
    values |= {name: draw.normal(name, *shape) for name, shape in noises.items()}
    network = _graph(net, {name: values[name] for name in net.inputs}, set(net.state_dict()))
    graphs = {"network": {**network, "noises": noises}}
    if model.space.codec is not None:
        graphs["decoder"] = _graph(Decoded(model.space), {"x": latent[:1]}, set(), any_batch=False)
    return graphs


def _graph(
    net: nn.Module, examples: Mapping[str, Tensor], outside: set[str], any_batch: bool = True
) -> dict[str, Any]:
    """A graph, deflated, and the names of its parameters that are to be given to it, in their order.

    outside: those that may be. Where the exporter fixes the batch, a graph of one row (many: False).
    """
    import onnx

    with TemporaryDirectory() as place:
        path = Path(place) / "network.onnx"
        export_graph(net, list(examples), tuple(examples.values()), path, optimize=False, any_batch=any_batch)
        model = onnx.load(path)
    if any_batch and any(given.type.tensor_type.shape.dim[0].dim_value for given in model.graph.input):
        return _graph(net, {name: value[:1] for name, value in examples.items()}, outside, any_batch=False)
    weights, offset = [], 0
    for tensor in model.graph.initializer:
        if tensor.name in outside and tensor.data_type == onnx.TensorProto.FLOAT:
            size = 4 * int(np.prod(tensor.dims))
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for name, value in (("location", WEIGHTS), ("offset", offset), ("length", size)):
                tensor.external_data.add(key=name, value=str(value))
            weights.append(tensor.name)
            offset += size
    del model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
    return {"onnx": deflated(model.SerializeToString()), "weights": weights, "many": any_batch}


def _some(model: Model, count: int) -> tuple[dict[str, Tensor], Tensor]:
    draw, given = RowDraw(0, 0, "conditions", range(count)), {}
    for name, condition in model.spec.conditions.items():
        size = model.spec.shape[1:] if condition.kind == "mask" else ()
        given[name] = (
            draw.integers(name, condition.size)
            if condition.kind == "label"
            else draw.uniform(name, condition.size, *size)
        )
    return given, torch.arange(count) % 2 == 0


def deflated(data: bytes) -> str:
    """Bytes as a page holds them."""
    press = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b64encode(press.compress(data) + press.flush()).decode("ascii")
