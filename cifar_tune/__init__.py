"""cifar_tune: one command tunes a CIFAR-10 classifier with PyTorch Lightning and Ray Tune."""

__version__ = "0.1.0"
