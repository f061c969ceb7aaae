"""Masked patch prediction: the targets, the corruption, and that it can be learned."""
import math

import pytest
import torch

from going_modular.paper import finetune, masked
from going_modular.paper.masked import COLOURS, MaskedPatchPrediction, corrupt, mean_colours, to_rgb, train
from going_modular.vit import ViT

SIZES = dict(image_size=16, patch_size=4, num_classes=3, num_layers=2, hidden_size=24, mlp_size=48, num_heads=2)


def test_mean_colours_by_hand():
    images = -torch.ones(1, 3, 4, 6)
    images[0, 0, :, 2:4] = 1  # red
    images[0, :, 2:, 4:] = 1  # white, below on the right
    images[0, 2, :2, :2] = torch.tensor([[-1, 1], [1, 1]])  # three quarters of blue: level 6
    assert mean_colours(images, 2).tolist() == [[6, 448, 0, 0, 448, 511]]


def test_a_class_is_within_half_a_step_of_its_colour():
    images = torch.rand(4, 3, 1, 5) * 2 - 1
    colours = to_rgb(mean_colours(images, 1))  # [4, 5, 3]
    assert (colours - (images.squeeze(2).transpose(1, 2) + 1) / 2).abs().max() <= 0.5 / 8 + 1e-6
    assert torch.equal(mean_colours((to_rgb(torch.arange(COLOURS)) * 2 - 1).T.view(1, 3, 8, 64), 1),
                       torch.arange(COLOURS)[None])


def test_the_shares_of_the_corruption():
    patches = 8 + torch.arange(3000.0 * 16).view(3000, 16, 1).expand(-1, -1, 24)  # each embedding tells its own
    replaced, corrupted = corrupt(patches, torch.full((24,), 7.0), corruption_rate=0.5)
    assert (corrupted.sum(dim=1) == 8).all()
    assert torch.equal(replaced[~corrupted], patches[~corrupted])
    changed = replaced[corrupted]
    masked, kept = (changed == 7).all(dim=1), (changed == patches[corrupted]).all(dim=1)
    assert masked.float().mean() == pytest.approx(0.8, abs=0.01) and kept.float().mean() == pytest.approx(0.1, abs=0.01)
    others = changed[~masked & ~kept]
    assert (others == others[:, :1]).all() and others[:, 0].unique().numel() > 0.8 * len(others)  # whole other patches
    assert corrupted.float().mean(dim=0).sub(0.5).abs().max() < 0.05  # no place is spared


@pytest.mark.parametrize("pool", ["token", "mean"])
def test_only_the_corrupted_patches_are_hidden(pool, monkeypatch):
    """With all patches masked nothing of the image is left; the plain forward pass afterwards is not corrupted."""
    vit = ViT(**SIZES, pool=pool).eval()
    task, (one, two) = MaskedPatchPrediction(vit, corruption_rate=1.0), torch.randn(2, 2, 3, 16, 16)
    torch.nn.init.normal_(task.head.weight)
    torch.nn.init.normal_(vit.head.weight)
    monkeypatch.setattr(masked, "corrupt", lambda patches, mask, corruption_rate: (
        mask.expand_as(patches), torch.ones(patches.shape[:2], dtype=torch.bool)))
    logits, corrupted = task(one)
    assert logits.shape == (2, 16, COLOURS) and corrupted.all()
    assert torch.equal(logits, task(two)[0])
    assert not torch.allclose(vit(one), vit(two))
    with pytest.raises(ValueError):
        task(one[:, :2])  # an error on the way leaves no hook behind
    assert not vit.patch_embedding._forward_hooks


def test_a_rectangle_is_masked_patch_by_patch():
    task = MaskedPatchPrediction(ViT(**{**SIZES, "image_size": (8, 20)}))
    images = torch.rand(2, 3, 8, 20) * 2 - 1
    logits, corrupted = task(images)
    assert logits.shape == (2, 10, COLOURS) and corrupted.sum(dim=1).tolist() == [5, 5]
    assert task.loss(images).item() == pytest.approx(math.log(COLOURS))


def test_it_learns_to_fill_in(capsys):
    """Images of one colour: what is masked has the colour of the rest."""
    task = MaskedPatchPrediction(ViT(**SIZES))
    palette = torch.tensor([[-0.9, 0.2, 0.6], [0.5, 0.5, -0.8], [0.1, -0.6, 0.9], [0.9, 0.9, 0.9]])
    images = palette.view(4, 3, 1, 1).expand(-1, -1, 16, 16).repeat(4, 1, 1, 1)
    assert task.loss(images).item() == pytest.approx(6.238, abs=1e-3)  # ln 512: the head starts at 0
    losses = train(task, [(images, None)] * 40, epochs=4, lr=1e-2, device="cpu")
    assert len(losses) == capsys.readouterr().out.count("loss") == 4
    assert task.loss(images) < 0.7  # four colours without looking at the image: ln 4 = 1.39
    assert task.mask.abs().max() > 0
    assert finetune.new_head(task.vit, 5)(images).shape == (16, 5)


def test_the_loss_is_that_of_the_corrupted_patches(monkeypatch):
    task, images = MaskedPatchPrediction(ViT(**SIZES)), torch.rand(2, 3, 16, 16)
    logits, corrupted = torch.randn(2, 16, COLOURS), torch.rand(2, 16) < 0.3
    monkeypatch.setattr(task, "forward", lambda images: (logits, corrupted))
    shares, colours = logits.log_softmax(-1), mean_colours(images, 4)
    expected = [-shares[b, n, colours[b, n]] for b in range(2) for n in range(16) if corrupted[b, n]]
    torch.testing.assert_close(task.loss(images), torch.stack(expected).mean())


def test_one_patch_at_least_is_corrupted():
    _, corrupted = corrupt(torch.zeros(3, 16, 24), torch.zeros(24), corruption_rate=0.01)
    assert corrupted.sum(dim=1).tolist() == [1, 1, 1]


def test_corruption_rates_that_make_no_sense():
    for corruption_rate in (0, 1.5):
        with pytest.raises(ValueError, match="corruption_rate"):
            MaskedPatchPrediction(ViT(**SIZES), corruption_rate)
