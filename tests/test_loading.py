"""Loaders: batches follow from the seed and the epoch alone."""
import numpy as np
import torch
from PIL import Image

from going_modular import data_setup
from going_modular.datasets.loading import combined_seed


def epochs(loader, count=2):
    """All images and all labels of each epoch."""
    return [[torch.cat(part) for part in zip(*loader, strict=True)] for _ in range(count)]


def test_loader_follows_from_seed_and_epoch(food):
    noise = np.random.default_rng(0)
    for path in food.rglob("*.png"):
        Image.fromarray(noise.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(path)
    train = data_setup.load(food).train

    def loader(**options):
        return data_setup.make_loader(train, data_setup.train_transform(8), 5, shuffle=True, **options)

    first, second = epochs(loader())
    assert first[0].shape == (12, 3, 8, 8) and sorted(first[1].tolist()) == sorted(train.targets)
    assert not torch.equal(first[0], second[0]) and first[1].tolist() != second[1].tolist()
    for again in (epochs(loader()), epochs(loader(num_workers=1))):
        assert torch.equal(again[0][0], first[0]) and torch.equal(again[1][0], second[0])
    state = torch.get_rng_state()
    assert loader().dataset[0, 3][0].shape == (3, 8, 8) and loader().dataset[3][1] == train.targets[3]
    (pixels, factors), label = loader().dataset.__getitems__([(0, 3)])[0]
    assert pixels.shape == (3, 8, 8) and pixels.dtype == torch.uint8 and factors.shape == (3,)
    assert label == train.targets[3]
    assert torch.equal(torch.get_rng_state(), state)
    resumed = loader()
    resumed.batch_sampler.set_epoch(1)
    assert torch.equal(epochs(resumed, 1)[0][0], second[0])
    assert not torch.equal(epochs(loader(seed=1))[0][0], first[0])


def test_batches_hold_what_the_transform_makes_of_each_image(food):
    train, transform = data_setup.load(food).train, data_setup.train_transform(8, trivial_augment=0.5)
    loader = data_setup.make_loader(train, transform, 5, shuffle=True, seed=3)
    keys = next(iter(loader.batch_sampler))
    loader.batch_sampler.set_epoch(0)
    images, targets = next(iter(loader))
    for key, image, target in zip(keys, images, targets, strict=True):
        torch.manual_seed(combined_seed(3, *key))
        picture, label = train[key[1]]
        assert target == label
        torch.testing.assert_close(image, transform(picture))
    grey = next(iter(data_setup.make_loader(train, lambda image: torch.full((2,), 7.0), 4)))[0]  # any callable serves
    assert grey.shape == (4, 2) and (grey == 7).all()


def test_loader_finishes_its_batches_on_the_device(food):
    train = data_setup.load(food).train
    for view in (data_setup.eval_transform(8), data_setup.train_transform(8)):
        images, _ = next(iter(data_setup.make_loader(train, view, 4, device="meta")))
        assert images.device.type == "meta" and images.shape == (4, 3, 8, 8) and images.dtype == torch.float32


def test_loader_takes_the_items_of_a_subset_of_ones_own(food):
    class Whitened(torch.utils.data.Subset):
        def __getitem__(self, index):
            return Image.new("RGB", (8, 8), "white"), super().__getitem__(index)[1]

        def __getitems__(self, indices):  # torch asks for both
            return [self[index] for index in indices]

    images, _ = next(iter(data_setup.make_loader(Whitened(data_setup.load(food).train, [0, 3]),
                                                 data_setup.eval_transform(8), 2)))
    assert (images == 1).all()


def test_loader_for_evaluation(food):
    test = data_setup.load(food).test
    loader = data_setup.make_loader(test, data_setup.eval_transform(8), 4)
    (images, targets), = epochs(loader, 1)
    assert images.shape == (6, 3, 8, 8) and targets.tolist() == test.targets and len(loader) == 2


def test_repeats_show_each_image_so_often_in_an_epoch():
    sampler = data_setup.EpochSampler(4, seed=1, repeats=3)
    epochs = [list(sampler) for _ in range(2)]
    assert len(sampler) == 12
    assert all(sorted(index for _, index in epoch) == sorted([0, 1, 2, 3] * 3) for epoch in epochs)
    assert len({key for epoch in epochs for key in epoch}) == 24  # no two passes with the same random numbers
    sampler.set_epoch(1)
    assert list(sampler) == epochs[1]
