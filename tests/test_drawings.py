"""The drawings and fractals that a model is pre-trained on."""
import numpy as np

from benchmarks import drawings


def test_pictures_of_a_fractal_differ_and_can_be_drawn_again():
    for number in range(5):
        maps = drawings.system(np.random.default_rng(number))
        assert np.linalg.svd(maps[:, :, :2], compute_uv=False).max() < 1  # each map brings points together
        first, again, other = (np.asarray(drawings.draw_fractal(maps, np.random.default_rng(seed)), dtype=float)
                               for seed in (0, 0, 1))
        assert first.shape == (64, 64, 3) and np.array_equal(first, again)
        assert np.abs(first - other).mean() > 10 and first.std() > 10


def test_the_drawings_are_laid_out_once_and_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(drawings, "OF_EACH", {"fractals": 10})
    monkeypatch.setattr(drawings, "FRACTALS", 2)
    drawings.lay_out_drawings(tmp_path / "data")
    files = sorted((tmp_path / "data").glob("*/*/*.png"))
    assert len(files) == 2 * 11 and len({file.parent.name for file in files}) == 2
    files[0].unlink()  # what is told to be whole is not drawn again
    drawings.lay_out_drawings(tmp_path / "data")
    assert not files[0].exists()
    (tmp_path / "data.txt").unlink()
    drawings.lay_out_drawings(tmp_path / "data")
    assert files[0].exists()
