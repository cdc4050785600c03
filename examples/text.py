"""A classifier of texts of any length, which is searched from Python, in six lines.

    python -m examples.text

The texts are made up: a positive one has more good words than bad ones, and "not" turns a word
round.
"""

import random

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

WORDS = [*(f"good{n}" for n in range(20)), *(f"bad{n}" for n in range(20)), "not", "and", "the"]
NUMBERS = {word: number for number, word in enumerate(WORDS, start=1)}  # 0 fills up


def example(draw: random.Random) -> tuple[list[int], int]:
    """A text as numbers of words, and whether it is positive."""
    text, score = list[str](), 0
    for _ in range(draw.randint(3, 12)):
        turned, word = draw.random() < 0.3, draw.choice(WORDS[:40])
        text += ["not"] * turned + [word]
        score += (1 if word.startswith("good") else -1) * (-1 if turned else 1)
    return [NUMBERS[word] for word in text], int(score > 0)


def batch_of(examples: list[tuple[list[int], int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Texts of one length, [batch, words], and their labels, [batch]."""
    texts = nn.utils.rnn.pad_sequence(
        [torch.tensor(text) for text, _ in examples], batch_first=True
    )
    return texts, torch.tensor([label for _, label in examples])


class Texts(L.LightningDataModule):
    """1,600 texts to train on, 400 to choose by, 400 for the end."""

    def __init__(self, batch_size: int = 32) -> None:
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:
        draw = random.Random(0)
        self.examples = [example(draw) for _ in range(2400)]

    def _loader(self, start: int, end: int, shuffle: bool = False) -> DataLoader:
        part = self.examples[start:end]
        return DataLoader(part, batch_size=self.batch_size, shuffle=shuffle, collate_fn=batch_of)

    def train_dataloader(self) -> DataLoader:
        return self._loader(0, 1600, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return self._loader(1600, 2000)

    def test_dataloader(self) -> DataLoader:
        return self._loader(2000, 2400)


class Reader(L.LightningModule):
    """Reads a text word by word."""

    def __init__(self, lr: float = 3e-3, width: int = 16, cell: str = "gru") -> None:
        super().__init__()
        self.save_hyperparameters()
        self.embedding = nn.Embedding(len(WORDS) + 1, width, padding_idx=0)
        self.reader = {"gru": nn.GRU, "lstm": nn.LSTM}[cell](width, width, batch_first=True)
        self.head = nn.Linear(width, 2)

    def forward(self, texts: torch.Tensor) -> torch.Tensor:
        states, _ = self.reader(self.embedding(texts))
        last = (texts > 0).sum(1) - 1
        return self.head(states[torch.arange(len(texts)), last])

    def training_step(
        self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int
    ) -> torch.Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> None:
        right = self(batch[0]).argmax(1) == batch[1]
        self.log("val_acc", right.float().mean(), batch_size=len(right))

    def predict_step(
        self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int
    ) -> torch.Tensor:
        return self(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])


if __name__ == "__main__":
    from cifar_tune import frame, tune_module

    space = {"model.lr": {"loguniform": [1e-3, 3e-2]}, "model.cell": {"choice": ["gru", "lstm"]}}
    results = tune_module(
        Reader, Texts, space=space, metric="val_acc", mode="max", num_samples=6, max_epochs=4
    )
    print(frame(results).sort_values("val_acc", ascending=False))
