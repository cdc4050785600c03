"""Two networks against each other, with two optimizers that the module steps itself.

    cifar-tune tune --module examples.gan:Gan --metric val_distance --mode min --max-epochs 6 \
        --set 'search.space.model.generator_lr={loguniform: [1e-4, 1e-2]}' \
        --set 'search.space.model.critic_lr={loguniform: [1e-4, 1e-2]}'

The module has its own loaders, so there is no data module. What is drawn is points on a ring; the
metric is how far the drawn points are from it, as the energy distance (Székely and Rizzo 2013).
"""

import math

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

NOISE = 8


def ring(count: int, seed: int) -> torch.Tensor:
    """Points on a ring, [count, 2]."""
    random = torch.Generator().manual_seed(seed)
    angle = 2 * math.pi * torch.rand(count, generator=random)
    around = 0.05 * torch.randn(count, 2, generator=random)
    return torch.stack([angle.cos(), angle.sin()], dim=1) + around


def network(inputs: int, outputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2),
        nn.Linear(width, outputs),
    )  # fmt: skip


class Gan(L.LightningModule):
    """A generator and its critic."""

    def __init__(
        self,
        generator_lr: float = 1e-3,
        critic_lr: float = 1e-3,
        width: int = 32,
        batch_size: int = 64,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.generator, self.critic = network(NOISE, 2, width), network(2, 1, width)

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        return self.generator(noise)

    def training_step(self, real: torch.Tensor, batch_idx: int) -> None:
        generator, critic = self.optimizers()  # type: ignore[misc]
        drawn = self(torch.randn(len(real), NOISE, device=self.device))
        loss = (
            F.softplus(-self.critic(real)).mean() + F.softplus(self.critic(drawn.detach())).mean()
        )
        critic.zero_grad()
        self.manual_backward(loss)
        critic.step()
        loss = F.softplus(-self.critic(drawn)).mean()
        generator.zero_grad()
        self.manual_backward(loss)
        generator.step()

    def validation_step(self, real: torch.Tensor, batch_idx: int) -> None:
        random = torch.Generator().manual_seed(batch_idx)
        drawn = self(torch.randn(len(real), NOISE, generator=random).to(self.device))
        across = torch.cdist(real, drawn).mean()
        within = (torch.cdist(real, real).mean() + torch.cdist(drawn, drawn).mean()) / 2
        self.log("val_distance", across - within)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        rates = self.hparams["generator_lr"], self.hparams["critic_lr"]
        return [
            torch.optim.Adam(net.parameters(), lr=lr, betas=(0.5, 0.999))
            for net, lr in zip((self.generator, self.critic), rates, strict=True)
        ]

    def train_dataloader(self) -> DataLoader:
        return DataLoader(ring(2048, 1), batch_size=self.hparams["batch_size"], shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(ring(512, 2), batch_size=512)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(ring(512, 3), batch_size=512)
