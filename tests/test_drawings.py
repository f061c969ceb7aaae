"""The drawings and fractals that a model is pre-trained on."""
import numpy as np

from benchmarks import drawings


def test_each_map_of_a_fractal_brings_points_together():
    for number in range(drawings.FRACTALS):
        maps = drawings.system(np.random.default_rng(number))
        assert np.linalg.svd(maps[:, :, :2], compute_uv=False).max() < 1


def test_pictures_of_a_fractal_differ_and_can_be_drawn_again():
    for number in range(5):
        maps = drawings.system(np.random.default_rng(number))
        first, again, other = (np.asarray(drawings.draw_fractal(maps, np.random.default_rng(seed)), dtype=float)
                               for seed in (0, 0, 1))
        assert first.shape == (64, 64, 3) and np.array_equal(first, again)
        assert np.abs(first - other).mean() > 10 and first.std() > 10


def test_each_class_has_a_folder_of_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(drawings, "OF_EACH", {"fractals": 10})
    monkeypatch.setattr(drawings, "FRACTALS", 2)
    drawings.draw_all(tmp_path)
    names = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.png")}
    assert names == {*(f"train/fractal_0{label}/000{index}.png" for label in (0, 1) for index in range(10)),
                     "test/fractal_00/0000.png", "test/fractal_01/0000.png"}
