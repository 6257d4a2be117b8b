"""Networks as ONNX graphs, one file each, and each checked against torch on inputs it was not traced with."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from safelight.config import UserError, install
from safelight.loading.model import Model
from safelight.randomness import RowDraw

TRACED, CHECKED = 2, 3  # batch sizes of the example, and of the check
CLOSE = 1e-3  # largest difference from torch, relative to the largest output


def write_onnx(model: Model, out: Path) -> list[str]:
    """<network>.onnx for each network that samples use. Raises UserError where one cannot be written.

    Inputs: x, t (of a denoiser), present, and the conditions by name; latent for generators and decoders.
    """
    require_onnx()
    import onnxruntime

    lines = []
    for name, net in model.nets.items():
        path = out / f"{name}.onnx"
        flat = Flat(net.cpu().float().eval(), name, list(model.spec.conditions))
        names = flat.inputs
        export_graph(flat, names, tuple(_example(model, input_name, TRACED) for input_name in names), path)
        session: Any = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        inputs = {key: _example(model, key, CHECKED) for key in names}
        used = [session_input.name for session_input in session.get_inputs()]  # unused ones are dropped
        outputs = session.run(None, {key: inputs[key].numpy() for key in used})
        with torch.no_grad():
            expected = flat(*inputs.values())
        off = max(float((torch.from_numpy(a) - b).abs().max() / b.abs().max().clamp(min=1e-12))
                  for a, b in zip(outputs, expected, strict=True))  # fmt: skip
        if off > CLOSE:
            raise UserError(
                f"{name}: the ONNX file differs from torch by {off:.1e} of the output; use --to safetensors"
            )
        lines.append(f"{path.name}: inputs {', '.join(used)}; differs from torch by {off:.1e} of the output")
    return lines


def require_onnx() -> None:
    """Raises UserError without the extra."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"ONNX is an extra: {install('onnx')}") from error


def export_graph(
    net: nn.Module,
    names: list[str],
    examples: tuple[Tensor, ...],
    path: Path,
    optimize: bool = True,
    any_batch: bool = True,
) -> None:
    """The graph of forward(*inputs). Raises UserError where it cannot be written.

    optimize: False keeps every parameter as it is, under its name. any_batch: False for the batch size of the
    examples alone.
    """
    batch = {0: torch.export.Dim("batch", min=1)} if any_batch else None
    try:
        with _quiet(), torch.no_grad():
            torch.onnx.export(
                net,
                examples,
                path,
                input_names=names,
                dynamic_shapes={"inputs": tuple(batch for _ in names)},
                dynamo=True,
                external_data=False,
                verbose=False,
                optimize=optimize,
            )
    except Exception as error:  # whatever the exporter cannot say in ONNX
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{path.stem}: cannot be written as ONNX ({reason}); use --to safetensors") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of packages that it would like to see."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


class Flat(nn.Module):
    """A network called with tensors in a row, as ONNX has them: conditions by name, not in a mapping."""

    def __init__(self, net: nn.Module, name: str, conditions: list[str]) -> None:
        super().__init__()
        self.net = net
        first = {"denoiser": ["x", "t"], "encoder": ["x"], "decoder": ["latent"], "generator": ["latent"]}
        if name not in first:
            raise UserError(f"{name}: only denoisers, generators, encoders and decoders export to ONNX")
        self.leading = first[name]
        self.inputs = [*self.leading, *conditions, "present"]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        values = dict(zip(self.inputs, inputs, strict=True))
        given = {name: value for name, value in values.items() if name not in (*self.leading, "present")}
        made = self.net(*(values[name] for name in self.leading), given, values["present"])
        return made if isinstance(made, tuple) else (made,)


def _example(model: Model, name: str, count: int) -> Tensor:
    """Some input of a name, different for each count."""
    draw = RowDraw(0, count, "onnx", range(count))
    if name == "x":
        return draw.normal("x", *model.spec.shape)
    if name == "t":
        return draw.uniform("t", *((2,) if getattr(model.nets["denoiser"], "interval", False) else ()))
    if name == "latent":
        return model.method.latent(draw)
    if name == "present":
        return torch.arange(count) % 2 == 0
    condition = model.spec.conditions[name]
    if condition.kind == "label":
        return draw.integers(name, condition.size)
    size = model.spec.shape[1:] if condition.kind == "mask" else ()
    return draw.uniform(name, condition.size, *size)
