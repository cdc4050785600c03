"""The lightning task: a LightningModule and a LightningDataModule of the user's own."""
