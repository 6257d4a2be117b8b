"""One training and its samples, by one system; benchmarks/peers.py runs it, in the peers' environment.

    python peer_training.py SYSTEM IMAGES.npy SECONDS SAMPLES OUT.npz SEED

SECONDS of processor time on one thread, from the first batch to the last, imports left out. Each system has
its published code and defaults; but pictures are padded where its network needs that, none are mirrored, and
it ends by time.
"""

# mypy: ignore-errors
# the peers are installed in an environment of their own, and have no types

from __future__ import annotations

import importlib.machinery
import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

EVALUATIONS = 10
CHUNK = 50  # samples at once
Result = tuple[torch.Tensor, int, int, str]  # samples in [0, 1] (n, C, H, W), images seen, evaluations, what


class Done(Exception):
    """The time is up."""


class Clock:
    """Processor seconds from its making."""

    last = 0.0  # what the latest check saw

    def __init__(self, seconds: float) -> None:
        self.seconds, self.began, self.spent = seconds, time.process_time(), 0.0

    def check(self) -> None:
        """Raises Done when the time is up."""
        self.spent = Clock.last = time.process_time() - self.began
        if self.spent >= self.seconds:
            raise Done


def padded(images: NDArray[np.uint8], multiple: int) -> NDArray[np.uint8]:
    """(n, H, W, C) with black about it."""
    more = [-side % multiple for side in images.shape[1:3]]
    pads = [(extra // 2, extra - extra // 2) for extra in more]
    return np.pad(images, ((0, 0), *pads, (0, 0)))


def in_chunks(n: int, draw: Callable[[int], torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([draw(min(CHUNK, n - done)) for done in range(0, n, CHUNK)])


def lucidrains(images: NDArray[np.uint8], seconds: float, n: int) -> Result:
    """Unet, GaussianDiffusion and Trainer as in its README: dim 64, four levels, batch 32 x 2, Adam 8e-5."""
    import denoising_diffusion_pytorch.denoising_diffusion_pytorch as package
    from PIL import Image

    images = padded(images, 32)
    channels = images.shape[-1]
    package.cpu_count = lambda: 0  # batches are made in this process, whose time is measured
    with tempfile.TemporaryDirectory() as folder:
        for number, image in enumerate(images):
            Image.fromarray(image.squeeze()).save(f"{folder}/{number:06d}.png", compress_level=0)
        net = package.Unet(dim=64, dim_mults=(1, 2, 4, 8), channels=channels)
        model = package.GaussianDiffusion(
            net, image_size=images.shape[1], timesteps=1000, sampling_timesteps=EVALUATIONS
        )
        trainer = package.Trainer(
            model, folder, train_batch_size=32, train_lr=8e-5, gradient_accumulate_every=2, ema_decay=0.995,
            train_num_steps=700_000, save_and_sample_every=10**9, calculate_fid=False,
            augment_horizontal_flip=False, results_folder=f"{folder}-results",
        )  # fmt: skip
        clock, update = Clock(seconds), trainer.ema.update

        def updated() -> None:
            update()
            clock.check()

        trainer.ema.update = updated
        with suppress(Done):
            trainer.train()
    sampler = trainer.ema.ema_model
    samples = in_chunks(n, lambda count: sampler.sample(batch_size=count))
    return samples, trainer.step * 64, EVALUATIONS, "Unet 64, (1, 2, 4, 8), DDIM"


def diffusers(images: NDArray[np.uint8], seconds: float, n: int) -> Result:
    """The network, optimiser and loss of examples/unconditional_image_generation/train_unconditional.py."""
    from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel
    from diffusers.optimization import get_scheduler

    images = padded(images, 32)
    channels = images.shape[-1]
    net = UNet2DModel(
        sample_size=images.shape[1], in_channels=channels, out_channels=channels, layers_per_block=2,
        block_out_channels=(128, 128, 256, 256, 512, 512),
        down_block_types=("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4,
    )  # fmt: skip
    noising = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
    batch, seen = 16, 0
    planned = len(images) // batch * 100
    schedule = get_scheduler("cosine", optimiser, num_warmup_steps=500, num_training_steps=planned)
    clock = Clock(seconds)
    try:
        while True:
            rows = np.random.default_rng(seen).integers(0, len(images), batch)
            clean = torch.from_numpy(images[rows]).permute(0, 3, 1, 2).float() / 127.5 - 1
            noise, t = torch.randn_like(clean), torch.randint(0, 1000, (batch,))
            loss = F.mse_loss(net(noising.add_noise(clean, noise, t), t).sample, noise)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            seen += batch
            clock.check()
    except Done:
        pass
    sampler = DPMSolverMultistepScheduler.from_config(noising.config)

    def draw(count: int) -> torch.Tensor:
        sampler.set_timesteps(EVALUATIONS)
        x = torch.randn(count, *clean.shape[1:])
        for t in sampler.timesteps:
            x = sampler.step(net(x, t).sample, t, x).prev_sample
        return x / 2 + 0.5

    return in_chunks(n, draw), seen, EVALUATIONS, "UNet2DModel 128-512, DPM-Solver++"


def smalldiffusion(images: NDArray[np.uint8], seconds: float, n: int) -> Result:
    """examples/fashion_mnist_unet.py: its Unet of 64 channels, batch 1024, AdamW 7e-4, EMA .999, gam 1.6."""
    from smalldiffusion import Scaled, ScheduleLogLinear, Unet, samples, training_loop
    from torch.utils.data import DataLoader

    images = padded(images, 4)
    channels = images.shape[-1]
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    loader = DataLoader(x, batch_size=min(1024, len(x)), shuffle=True)  # type: ignore[arg-type]
    schedule = ScheduleLogLinear(sigma_min=0.01, sigma_max=20, N=800)
    side = images.shape[1]
    net = Scaled(Unet)(side, channels, channels, ch=64, ch_mult=(1, 1, 2), attn_resolutions=(side // 2,))
    average = torch.optim.swa_utils.AveragedModel(net, avg_fn=_decay(0.999))
    clock, seen = Clock(seconds), 0
    for ns in training_loop(loader, net, schedule, epochs=10_000, lr=7e-4):
        average.update_parameters(net)
        seen += len(ns.x0)
        try:
            clock.check()
        except Done:
            break
    inner, sigmas = average.module, schedule.sample_sigmas(EVALUATIONS)
    drawn = in_chunks(n, lambda count: list(samples(inner, sigmas, gam=1.6, batchsize=count))[-1])
    return drawn / 2 + 0.5, seen, EVALUATIONS, "Unet 64, (1, 1, 2), its accelerated DDIM"


def _decay(most: float) -> Callable[[torch.Tensor, torch.Tensor, Any], torch.Tensor]:
    """torch_ema's average: min(most, (1 + n) / (10 + n))."""

    def update(average: torch.Tensor, now: torch.Tensor, n: Any) -> torch.Tensor:
        decay = min(most, (1 + float(n)) / (10 + float(n)))
        return average * decay + now * (1 - decay)

    return update


def pythae(images: NDArray[np.uint8], seconds: float, n: int) -> Result:
    """VAE and BaseTrainer with their defaults (latent 16, as its examples), samples of its normal sampler."""
    from pythae.models import VAE, VAEConfig
    from pythae.pipelines import TrainingPipeline
    from pythae.samplers import NormalSampler
    from pythae.trainers import BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    seen, clock = 0, Clock(seconds)

    class Watch(TrainingCallback):
        def on_train_step_end(self, training_config: Any, **kwargs: Any) -> None:
            nonlocal seen
            seen += training_config.per_device_train_batch_size
            clock.check()

    with tempfile.TemporaryDirectory() as folder:
        model = VAE(VAEConfig(input_dim=tuple(x.shape[1:]), latent_dim=16))
        config = BaseTrainerConfig(output_dir=folder, num_epochs=10_000)
        with suppress(Done):
            TrainingPipeline(model=model, training_config=config)(train_data=x, callbacks=[Watch()])
    drawn = NormalSampler(model=model).sample(num_samples=n, return_gen=True)
    return drawn.reshape(n, *x.shape[1:]).cpu(), seen, 1, "VAE, perceptrons, latent 16"


def stub_torchvision() -> None:
    """The few transforms that lucidrains' data set and smalldiffusion's import, with Pillow alone."""
    module, transforms, utils = (ModuleType(f"torchvision{part}") for part in ("", ".transforms", ".utils"))
    module.__spec__ = importlib.machinery.ModuleSpec("torchvision", None)
    module.transforms, module.utils = transforms, utils  # type: ignore[attr-defined]

    def same(*arguments: Any) -> Callable[[Any], Any]:
        return lambda image: image  # pictures have the size already, and are not mirrored

    def compose(steps: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
        def run(image: Any) -> Any:
            for step in steps:
                image = step(image)
            return image

        return run

    def tensor(image: Any) -> torch.Tensor:
        pixels = np.asarray(image, np.float32) / 255
        return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)

    names = {"Compose": compose, "Lambda": lambda f: f, "ToTensor": lambda: tensor, "Resize": same,
             "CenterCrop": same, "RandomHorizontalFlip": same}  # fmt: skip
    for name, function in names.items():
        setattr(transforms, name, function)
    sys.modules |= {"torchvision": module, "torchvision.transforms": transforms, "torchvision.utils": utils}


SYSTEMS = {f.__name__: f for f in (lucidrains, diffusers, smalldiffusion, pythae)}


def main() -> None:
    system, images, seconds, n, out, seed = sys.argv[1:]
    if system in ("lucidrains", "smalldiffusion"):  # diffusers and the others do without
        stub_torchvision()
    torch.set_num_threads(1)
    torch.manual_seed(int(seed))
    pixels = np.load(images)
    samples, seen, evaluations, what = SYSTEMS[system](pixels, float(seconds), int(n))
    height, width = pixels.shape[1:3]
    top, left = (samples.shape[2] - height) // 2, (samples.shape[3] - width) // 2
    cut = samples[:, :, top : top + height, left : left + width].clamp(0, 1).nan_to_num()
    arrays = (255 * cut).round().byte().permute(0, 2, 3, 1).numpy()
    facts = {"seen": seen, "evaluations": evaluations, "what": what, "spent": Clock.last}
    np.savez(Path(out), samples=arrays, facts=json.dumps(facts))


if __name__ == "__main__":
    main()
