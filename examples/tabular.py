"""A classifier of tables: rows of numbers, some of them missing, with classes of unequal size.

    cifar-tune tune --module examples.tabular:Tabular --datamodule examples.tabular:Rows \
        --metric val_f1 --mode max --max-epochs 8 \
        --set 'search.space.model.lr={loguniform: [1e-4, 1e-1]}' \
        --set 'search.space.model.hidden={pow2: [16, 128]}' \
        --set 'search.space.data.batch_size={choice: [32, 64, 128]}'

Nothing here knows of a search. The table is made up, so that it runs anywhere; put your own in
`Rows.setup`.
"""

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassF1Score

COLUMNS, CLASSES = 12, 3


class Rows(L.LightningDataModule):
    """2,000 rows: to train on, to choose by, to confirm with, and for the end."""

    def __init__(self, batch_size: int = 64, seed: int = 0) -> None:
        super().__init__()
        self.batch_size, self.seed = batch_size, seed

    def setup(self, stage: str) -> None:
        random = torch.Generator().manual_seed(self.seed)
        x = torch.randn(2000, COLUMNS, generator=random)
        scores = torch.stack([x[:, 0] * x[:, 1], x[:, 2].abs() - 1, x[:, 3] + x[:, 4] - 1], dim=1)
        y = (scores + 0.3 * torch.randn(2000, CLASSES, generator=random)).argmax(1)
        x[torch.rand(x.shape, generator=random) < 0.05] = float("nan")  # missing
        self.parts = [
            TensorDataset(x[a:b], y[a:b])
            for a, b in [(0, 1200), (1200, 1500), (1500, 1700), (1700, 2000)]
        ]

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.parts[0], batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.parts[1], batch_size=512)

    def confirm_dataloader(self) -> DataLoader:  # the finals compare on it, if it is there
        return DataLoader(self.parts[2], batch_size=512)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.parts[3], batch_size=512)


class Tabular(L.LightningModule):
    """A small network on the numbers, and on which of them are missing."""

    def __init__(self, lr: float = 1e-2, hidden: int = 32, dropout: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Linear(2 * COLUMNS, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, CLASSES),
        )
        self.f1 = MulticlassF1Score(CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        missing = x.isnan()
        return self.net(torch.cat([x.nan_to_num(), missing.float()], dim=1))

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y)

    def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        x, y = batch
        logits = self(x)
        self.f1(logits, y)
        self.log("val_f1", self.f1)
        self.log("val_loss", F.cross_entropy(logits, y))

    def configure_optimizers(self) -> dict:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams["lr"])
        epochs = self.trainer.max_epochs or 1
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        return {"optimizer": optimizer, "lr_scheduler": schedule}
