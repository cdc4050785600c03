"""SpeedNet whitens patches, trains what it should, and starts with small logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from cifar_tune.vision.models.speednet import SpeedNet, patch_covariance


def images(count: int = 150) -> torch.Tensor:
    """Smooth noise, whose neighbouring pixels and channels go together as those of photographs."""
    noise = torch.randn(count, 3, 34, 34, generator=torch.Generator().manual_seed(0))
    return F.avg_pool2d(noise, 3, stride=1) * 3 + noise.mean(dim=1, keepdim=True)[..., 1:-1, 1:-1]


def test_width_64_has_2_million_parameters_of_which_whitening_and_scales_are_frozen() -> None:
    network = SpeedNet(64, num_classes=10)
    assert sum(p.numel() for p in network.parameters()) == 1_972_792
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    scales = {f"stage{stage}.norm{norm}.weight" for stage in (1, 2, 3) for norm in (1, 2)}
    assert frozen == {"whitening.weight", *scales}


def test_patch_covariance_is_that_of_all_patches() -> None:
    few = images(150)
    patches = few.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
    expected = (patches.T @ patches / len(patches)).double()
    torch.testing.assert_close(patch_covariance(few), expected, rtol=1e-4, atol=1e-4)


def test_whitened_channels_are_uncorrelated_with_about_variance_1_and_come_in_both_signs() -> None:
    network, seen = SpeedNet(4, num_classes=10), images()
    network.init_from_images(seen)
    weight = network.whitening.weight
    assert torch.equal(weight[:12], -weight[12:])
    maps = F.conv2d(seen, weight[:12]).transpose(0, 1).flatten(1)
    torch.testing.assert_close(maps @ maps.T / maps.shape[1], torch.eye(12), atol=0.05, rtol=0)


def test_the_start_from_images_is_the_same_each_time() -> None:
    networks = [SpeedNet(4, num_classes=10) for _ in range(2)]
    for network in networks:
        network.init_from_images(images())
    assert torch.equal(networks[0].whitening.weight, networks[1].whitening.weight)


def test_convolutions_begin_by_handing_their_inputs_on() -> None:
    weight = SpeedNet(8, num_classes=10).stage2.conv1.weight  # [32, 8, 3, 3]
    maps = torch.randn(1, 8, 6, 6)
    torch.testing.assert_close(F.conv2d(maps, weight[:8], padding=1), maps)
    assert weight[8:].std() > 0.01


def test_logits_start_small() -> None:
    torch.manual_seed(0)
    network = SpeedNet(16, num_classes=10)
    network.init_from_images(images())
    assert network(images(64)).abs().max() < 1
