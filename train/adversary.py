"""The adversarial part of a run: the discriminator as it learns, and what it asks of the generator.

Relativistic average loss (equations 5 to 7) and perceptual loss (equation 8).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from train import losses, processes
from train.config import TrainConfig
from train.discriminator import PatchDiscriminator
from train.perceptual import load_vgg, perceptual_loss
from train.precision import mixed


class Adversary:
    """The discriminator with its optimizer, and VGG-19's features."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        """Raise ValueError if VGG-19's weights cannot be had."""
        self._config = config
        self._features = load_vgg(config.vgg).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks the pair
        self.discriminator = PatchDiscriminator().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._optimizer = torch.optim.Adam(
            self.discriminator.parameters(), betas=(0.5, 0.999), fused=True
        )

    def learn(self, restored: Tensor, sharp: Tensor, rate: float) -> dict[str, Tensor]:
        """One step of the discriminator; its figures. The generator stays as it is."""
        with mixed(sharp.device, self._config.amp):
            real, fake = self.discriminator(sharp), self.discriminator(restored.detach())
        loss = losses.discriminator_loss(real, fake)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        processes.average_gradients(self.discriminator.parameters())
        norm = torch.nn.utils.get_total_norm(
            p.grad for p in self.discriminator.parameters() if p.grad is not None
        )
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        certainty = torch.sigmoid(losses.relativistic(real, fake)).mean()
        return {"L_D": loss.detach(), "D_Ra(real, fake)": certainty.detach(), "D norm": norm}

    def loss(self, restored: Tensor, sharp: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What the generator makes small, weighted; and the terms. The discriminator is frozen."""
        with mixed(sharp.device, self._config.amp), self._frozen():
            with torch.no_grad():
                real, wanted = self.discriminator(sharp), self._features(sharp)
            fake, seen = self.discriminator(restored), self._features(restored)
        adversarial = losses.adversarial_loss(real, fake)
        perceptual = perceptual_loss(seen, wanted, channels=self._config.perceptual_channels)
        total = self._config.adversarial * adversarial + self._config.perceptual * perceptual
        return total, {"L_adv": adversarial.detach(), "L_per": perceptual.detach()}

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "discriminator": self.discriminator.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        self.discriminator.load_state_dict(state["discriminator"])
        self._optimizer.load_state_dict(state["optimizer"])

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        self.discriminator.requires_grad_(False)
        try:
            yield
        finally:
            self.discriminator.requires_grad_(True)
