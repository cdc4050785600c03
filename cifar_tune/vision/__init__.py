"""The built-in task: CIFAR-10 and image folders."""
