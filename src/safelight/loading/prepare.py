"""From a recipe to what a session trains with: data, method, device."""

from __future__ import annotations

import os
import socket
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import torch

from safelight import fanout
from safelight.assembly import multiple_of
from safelight.config import UserError
from safelight.data import open_data
from safelight.data.edits import pinned_data, require_items
from safelight.data.encoded import Encoded, Latents, describe, open_features, open_latents, space_of
from safelight.data.pack import Pack
from safelight.data.source import Progress
from safelight.data.space import Codec, Space
from safelight.data.stream import Stream
from safelight.data.views import views_of
from safelight.engine import precision
from safelight.engine.distributed import World
from safelight.engine.fingerprint import environment
from safelight.engine.further_optimisers import require_available
from safelight.engine.memory import require_memory_of_images
from safelight.engine.plan import Plan, Train
from safelight.engine.precision import Execution
from safelight.engine.sharded import require_shardable
from safelight.engine.state import State
from safelight.loading.codecs import KEY as CODEC
from safelight.loading.codecs import open_codec
from safelight.loading.dependencies import Products, references, used
from safelight.loading.init_source import INIT
from safelight.loading.model import Model, RunData, average_words
from safelight.loading.transfer import Transfer
from safelight.recipe import Recipe
from safelight.store.directory import RunDirectory
from safelight.terminal import paced, plain
from safelight.types import Method, Nets, Tell, UsesImageFeatures

DEVICE = "SAFELIGHT_DEVICE"  # environment variable: device of commands that read a run


@dataclass(frozen=True)
class Prepared:
    """All that a session needs besides the run's directory."""

    recipe: Recipe
    pack: Pack
    stream: Stream
    method: Method
    device: torch.device
    world: World
    products: Products  # of trainings that came before, by the key of the recipe that names one

    @property
    def plan(self) -> Plan:
        """The plan of the recipe as it was written, before interventions."""
        return self.recipe.plan(self.pack.trained)

    def state(self, memory_format: str, plan: Plan | None = None, compile: str = "off") -> State:
        """The state of training at step 0. plan: the recipe's by default."""
        spec, plan = self.stream.spec, plan or self.plan
        device = torch.device("cpu") if self.cut else self.device  # the whole of it is in the host's memory
        return State(self.method, spec, plan, device, memory_format, self.transfer, compile)

    @property
    def cut(self) -> bool:
        """Whether networks are cut over several processes."""
        return self.recipe.train.shard and self.world.size > 1

    @cached_property
    def transfer(self) -> Transfer | None:
        """The weights that a new run begins with; None where it begins with its own. Raises UserError."""
        product = self.products.get(INIT)
        return Transfer(product, self.recipe.init, self.method, self.stream.spec) if product else None

    def model(self, directory: RunDirectory, recipe: Recipe, nets: Nets, step: int, arithmetic: str) -> Model:
        """Networks of a run that trains, as its samples are drawn. recipe: in force. arithmetic: "fp32"."""
        data = RunData(directory, used(recipe, self.products), self.device, self.stream.space, self.stream)
        return Model(
            self.method,
            nets,
            recipe.sample,
            self.stream.spec,
            recipe,
            data,
            step,
            precision.autocast(self.device, arithmetic),
            arithmetic,
            average_words(recipe, self.method),
        )


def prepare(
    recipe: Recipe,
    world: World,
    tell: Tell = lambda line: None,
    products: Products = MappingProxyType({}),
    progress: Progress | None = None,
) -> Prepared:
    """Open the data and the device of a recipe. Raises UserError.

    progress: of work on the data, shown; without it lines are told every now and then.
    """
    work = (progress or paced(tell)) if world.first else None
    if missing := references(recipe).keys() - products.keys():
        raise UserError(f"{sorted(missing)[0]}: depends on another run; train it first")
    device = open_device(recipe.train.device, world.size, recipe.train)
    require_available(recipe.optim, device)
    require_shardable(recipe.plan(1), recipe.method())
    opened = used(recipe, products)
    if world.local == 0:
        pack = open_data(opened.data, work)
        if pack.layout:
            tell(plain(f"{pack.name}: {pack.description()}"))
        for note in pack.notes:
            tell(f"note: {plain(str(note))}")
    world.wait()  # the first process of each machine packs, the others find it done
    if world.local != 0:
        pack = open_data(opened.data)
    if world.share(pack.fingerprint) != pack.fingerprint:
        raise UserError(f"{pack.name}: {socket.gethostname()} has other data than the first machine; copy it")
    if edits := pinned_data(recipe.data, pack):
        recipe = recipe.with_changes(edits)
        require_items(recipe.data, pack)
    stream, method = open_stream(recipe, pack, world, device, products, tell, work), opened.method()
    stream = stream.with_features(open_image_features(opened, method, stream, world, products, work))
    parts = recipe.train.accumulate
    require_memory_of_images(recipe.train.batch_size // (parts * world.size), stream.spec, device)
    stream.parts(0, parts, world.rank, world.size)  # refuse sizes that do not divide
    return Prepared(recipe, pack, stream, method, device, world, products)


def open_stream(
    recipe: Recipe, pack: Pack, world: World, device: torch.device, products: Products, tell: Tell,
    progress: Progress | None,
) -> Stream:  # fmt: skip
    """The batches of a recipe: images, or latents that are encoded now if they are not in the cache."""
    for part in pack.parts:  # refuses quarter turns of those that are no squares
        views = views_of(recipe.data, *part.images.shape[1:3])
    space, latents = Space(), list[Latents]()
    if recipe.data.latents:
        codec = open_codec(products[CODEC], pack.spec.shape[0], device)
        if getattr(recipe.sample, "clip", False):
            raise UserError("sample.clip: latents are not bounded by -1 and 1; set sample.clip=false")
        require_sides(recipe, pack, codec)
        for part in pack.parts:
            encoded = open_latents(part, codec, views.all, device, progress) if world.local == 0 else None
            world.wait()
            latents.append(encoded or open_latents(part, codec, views.all, device))
        space = space_of(pack, latents[0], codec, recipe.data.latents.shift, recipe.data.latents.scale)
        tell(describe(space))
    else:
        require_sides(recipe, pack)
    train = recipe.train
    return Stream(
        pack,
        train.seed,
        train.batch_size,
        views=views,
        balance=recipe.data.balance,
        device=device,
        space=space,
        latents=latents,
    )


def require_sides(recipe: Recipe, pack: Pack, codec: Codec | None = None) -> None:
    """Raises UserError for buckets that the networks, or the autoencoder, cannot take."""
    if not pack.buckets:
        return
    if codec and not codec.any_size:
        raise UserError(
            f"data.buckets: the autoencoder {codec.name} is for images of one size; use one of kl_encoder "
            "and kl_decoder, or remove data.buckets"
        )
    needed = multiple_of(recipe.networks) * (codec.factor if codec else 1)
    for part in pack.buckets:
        height, width = part.images.shape[1:3]
        if height % needed or width % needed:
            raise UserError(
                f"data.buckets: sides of {height}x{width} do not divide by {needed}, as the networks need; "
                f"set data.bucket_multiple={needed}"
            )


def open_image_features(
    opened: Recipe, method: Method, stream: Stream, world: World, products: Products,
    progress: Progress | None,
) -> Encoded | None:  # fmt: skip
    """Features of real images that training asks for, computed now if they are not in the cache.

    None where it asks for none, sees latents, or the network is not known by a digest.
    """
    role = method.looks_with(opened.weights) if isinstance(method, UsesImageFeatures) else None
    product = products.get(f"network.{role}.path")
    if role is None or product is None or stream.latents or stream.buckets:
        return None
    network = opened.networks[role].build(stream.spec).to(stream.device).eval().requires_grad_(False)
    source = stream.pack, network, product.digest, stream.views.all, stream.device
    features = open_features(*source, progress) if world.local == 0 else None
    world.wait()
    return features or open_features(*source)


def open_device(name: str, processes: int = 1, train: Train | None = None) -> torch.device:
    """The device of train.device; "auto" takes CUDA, then MPS, then the CPU. Raises UserError.

    Each of several processes has its own CUDA device, which `together` made the current one. train: how it
    is to compute.
    """
    if processes > 1 and name.startswith("cuda:"):
        raise UserError(f"train.device: {processes} processes cannot share {name}; state cuda")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("computes nothing")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"train.device: {name!r} is not available here; try train.device=cpu") from error
    if name == "cuda":  # which one that is differs between threads, so it is named
        device = torch.device("cuda", torch.cuda.current_device())
    if train:
        precision.settle(device, tf32=train.tf32, deterministic=train.deterministic)
    else:
        precision.settle(device)
    return device


def pool_of(
    directory: RunDirectory, on: str, tasks: int, *folders: Path
) -> AbstractContextManager[fanout.Pool]:
    """A pool for tasks on a run, each with the device of the run and the threads of this process.

    Bits depend on both. folders: others that every worker has to see. Raises UserError.
    """
    device = os.environ.get(DEVICE) or str(directory.recipe_tree()["train"]["device"])
    seen = (directory.path, *folders)
    return fanout.pool(on, tasks, *seen, threads=torch.get_num_threads(), device=device)


def reading_device(recipe: Recipe, tell: Tell) -> torch.device:
    """The device that a run is read on: $SAFELIGHT_DEVICE or the recipe's; where it is not there, another.

    tell: takes a line where it is another. Raises UserError where $SAFELIGHT_DEVICE is not here.
    """
    if stated := os.environ.get(DEVICE):
        return open_device(stated, train=recipe.train)
    try:
        return open_device(recipe.train.device, train=recipe.train)
    except UserError:
        device = open_device("auto", train=recipe.train)
        tell(f"train.device: {recipe.train.device!r} is not available here; reading the run on {device}")
        return device


def environment_of(ready: Prepared, execution: Execution) -> dict[str, str | int]:
    """What computes a session, as its fingerprint."""
    facts = environment(
        ready.device, execution.precision, execution.memory_format, ready.world.size, execution.compile
    )
    return facts | ({"parameters": "cut"} if ready.cut else {})
