"""Drawn pictures: the same everywhere, complete or absent on disk, and not to be told apart by colour."""

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import baselines
from going_modular import drawn

DRAW = {dish: drawn.draw_food for dish in drawn.FOOD[:3]} | {"7": drawn.draw_digit, "star_striped": drawn.draw_thing}
# mean grey levels of the 4 x 4 parts of one picture each
PINNED = {
    "pizza": [
        152.3, 136.4, 130.6, 160.7, 131.7, 115.8, 109.5, 142.5,
        102.8, 78.1, 101.3, 138.8, 116.5, 101, 86.8, 112.2,
    ],
    "steak": [
        147.5, 103.3, 109.9, 134.8, 131.5, 67.2, 112.5, 84.4,
        134.7, 83.2, 101.2, 145.3, 129.7, 129.4, 128.5, 127.9,
    ],
    "sushi": [
        83.7, 102.9, 92.4, 61.4, 76.2, 123.9, 111.1, 87.1,
        123.7, 80.8, 126.8, 96.7, 166, 103.2, 92.9, 135.7,
    ],
    "7": [0, 92.9, 99.8, 0, 0, 15.9, 85.1, 0, 0, 0, 81.7, 0, 0, 0, 51.1, 0],
    "star_striped": [71.9, 77.9, 86.1, 76.7, 82.7, 95.4, 113, 76.8, 89.5, 109.2, 111.1, 71.9, 70.7, 81.5, 67.8, 66],
}


def generator(*seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def pixels(name: str, split: str = "train", **options) -> dict[tuple[str, int], np.ndarray]:
    return {(label, index): np.asarray(image) for label, index, image in drawn.draw_set(name, split, **options)}


@pytest.fixture
def small(monkeypatch):
    """A set `few` of three dishes, quick to draw."""
    monkeypatch.setitem(drawn.SETS, "few", drawn.DrawnSet(drawn.FOOD[:3], 16, "RGB", 3, 2, drawn.draw_food))
    return "few"


@pytest.mark.parametrize("name", drawn.SETS)
def test_a_picture_depends_on_seed_split_and_index_alone(name):
    few, more = pixels(name, count=1), pixels(name, count=2)
    assert len(more) == 2 * len(few) == 2 * len(drawn.SETS[name].classes)
    assert all((few[key] == more[key]).all() for key in few)
    assert len({image.tobytes() for image in more.values()}) == len(more)
    for others in (pixels(name, count=1, seed=1), pixels(name, "test", count=1)):
        assert not any((few[key] == others[key]).all() for key in few)


def test_the_three_dishes_are_those_of_drawn10():
    three, ten = pixels("drawn", count=1), pixels("drawn10", count=1)
    assert drawn.FOOD[:3] == ("pizza", "steak", "sushi")
    assert all((three[key] == ten[key]).all() for key in three)


@pytest.mark.parametrize("name", drawn.SETS)
def test_sizes_modes_and_values(name):
    _, _, image = next(drawn.draw_set(name, "train"))
    expected = drawn.SETS[name]
    assert image.size == (expected.size, expected.size) and image.mode == expected.mode
    assert np.ptp(np.asarray(image)) > 60


@pytest.mark.parametrize("size", (32, 50, 96))
def test_any_size_shows_the_same_picture(size):
    reference = np.asarray(drawn.draw_food("pizza", generator(3), 64).resize((8, 8)), float)
    other = np.asarray(drawn.draw_food("pizza", generator(3), size).resize((8, 8)), float)
    assert other.shape == reference.shape and abs(other - reference).mean() < 12


def test_every_dish_draws_at_many_seeds():
    for dish in drawn.FOOD:
        for seed in range(8):
            assert drawn.draw_food(dish, generator(seed), 16).size == (16, 16)


@pytest.mark.parametrize("kind", PINNED)
def test_pictures_are_the_same_on_every_machine(kind):
    image = DRAW[kind](kind, generator(0, 1, 2))
    grid = np.asarray(image.convert("L"), float)
    side = grid.shape[0] // 4
    means = grid.reshape(4, side, 4, side).mean((1, 3)).ravel()
    assert abs(means - PINNED[kind]).max() <= 1, means.round(1).tolist()


def test_names():
    assert len(drawn.FOOD) == len(set(drawn.FOOD)) == 10
    assert drawn.DIGITS == tuple("0123456789")
    assert len(drawn.THINGS) == len(set(drawn.THINGS)) == 100
    assert {len({thing.split("_")[part] for thing in drawn.THINGS}) for part in (0, 1)} == {10}


@pytest.mark.parametrize(
    "call, known",
    [
        (lambda: drawn.draw_food("soup", generator(0)), "sushi"),
        (lambda: drawn.draw_digit("10", generator(0)), "9"),
        (lambda: drawn.draw_thing("star", generator(0)), "star_striped"),
        (lambda: next(drawn.draw_set("drawn3", "train")), "drawn10"),
        (lambda: next(drawn.draw_set("drawn", "validation")), "train, test"),
        (lambda: drawn.sheet("drawn3"), "drawn10"),
    ],
)
def test_unknown_names_are_refused_and_the_known_ones_listed(call, known):
    with pytest.raises(ValueError, match=known):
        call()


def test_write_refuses_unknown_names_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="drawn_digits"):
        drawn.write_set("drawn3", tmp_path)
    assert not list(tmp_path.iterdir())


def test_write_is_balanced_and_lossless(tmp_path, small):
    target = drawn.write_set(small, tmp_path / "new", seed=5)
    assert target == tmp_path / "new" / small
    for split, count in (("train", 3), ("test", 2)):
        for label in drawn.FOOD[:3]:
            names = sorted(path.name for path in (target / split / label).iterdir())
            assert names == [f"{index:04d}.png" for index in range(count)]
        for (label, index), image in pixels(small, split, seed=5).items():
            with Image.open(target / split / label / f"{index:04d}.png") as stored:
                assert (np.asarray(stored) == image).all()
    assert [path.name for path in (tmp_path / "new").iterdir()] == [small]


def test_write_leaves_what_is_there(tmp_path, small):
    target = drawn.write_set(small, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    assert drawn.write_set(small, tmp_path, seed=1) == target
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == before


def test_an_interrupted_write_is_not_taken_for_complete(tmp_path, small, monkeypatch):
    drawn_so_far = []

    def interrupted(*arguments):
        drawn_so_far.append(arguments)
        if len(drawn_so_far) == 8:
            raise KeyboardInterrupt
        return drawn.draw_food(*arguments)

    broken = drawn.DrawnSet(drawn.FOOD[:3], 16, "RGB", 3, 2, interrupted)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setitem(drawn.SETS, small, broken)
        drawn.write_set(small, tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / f".{small}-killed" / small / "train").mkdir(parents=True)  # what a kill leaves behind
    assert len(list(drawn.write_set(small, tmp_path).glob("*/*/*.png"))) == 15


def test_two_writers_agree(tmp_path, small, monkeypatch):
    """The slower of two processes finds the folder there when it wants to rename its own."""

    def slow(dish, rng, size):
        if not (tmp_path / small).exists():
            monkeypatch.setitem(drawn.SETS, small, quick)
            drawn.write_set(small, tmp_path)
        return drawn.draw_food(dish, rng, size)

    quick = drawn.SETS[small]
    monkeypatch.setitem(drawn.SETS, small, drawn.DrawnSet(drawn.FOOD[:3], 16, "RGB", 3, 2, slow))
    assert drawn.write_set(small, tmp_path) == tmp_path / small
    assert [path.name for path in tmp_path.iterdir()] == [small]
    assert len(list((tmp_path / small).glob("*/*/*.png"))) == 15


def test_sheet_puts_each_picture_in_its_cell():
    sheet = drawn.sheet("drawn", columns=3, rows=2, size=16, gap=2)
    assert sheet.size == (3 * 18 - 2, 2 * 18 - 2)
    images = pixels("drawn", count=2, size=16)
    assert (np.asarray(sheet.crop((18, 18, 34, 34))) == images["steak", 1]).all()


@pytest.fixture(scope="module")
def dishes():
    def tensors(split, count):
        images = pixels("drawn", split, count=count)
        labels = torch.tensor([drawn.FOOD.index(label) for label, _ in images])
        return torch.from_numpy(np.stack(list(images.values()))).permute(0, 3, 1, 2).contiguous(), labels

    return *tensors("train", 100), *tensors("test", 50)


@pytest.mark.parametrize(
    "kind, l2, bound", [("mean_colour", 1e-3, 0.60), ("histogram", 1e-2, 0.75), ("pixels", 1, 0.75)]
)
def test_neither_colour_nor_pixels_give_the_dish_away(dishes, kind, l2, bound):
    train_x, train_y, test_x, test_y = dishes
    features, _ = baselines.FEATURES[kind]
    accuracy = baselines.logistic_regression(features(train_x), train_y, features(test_x), test_y, (l2,), steps=20)
    assert 1 / 3 - 0.1 < accuracy < bound, f"{kind}: {accuracy:.3f}"


def test_the_baseline_finds_what_colour_gives_away(dishes):
    """The same regression does find classes that differ in colour, so its low scores above mean something."""
    train_x, train_y, test_x, test_y = dishes
    train, test = (baselines.features_mean_colour(x) for x in (train_x, test_x))
    train[:, 0] += 0.5 * (train_y == 0)
    test[:, 0] += 0.5 * (test_y == 0)
    train[:, 1] += 0.5 * (train_y == 1)
    test[:, 1] += 0.5 * (test_y == 1)
    assert baselines.logistic_regression(train, train_y, test, test_y, (1e-3,)) > 0.9
