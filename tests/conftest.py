import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from data_files import write_set
from fake_gpu import fake_gpu
from PIL import Image

matplotlib.use("Agg")

COLOURS = {"blue": (40, 70, 200), "green": (40, 180, 60), "red": (210, 50, 40)}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No test depends on a network, or on data that lies on this machine."""
    monkeypatch.setenv("VIT_OFFLINE", "1")
    for name in ("VIT_DATA", "VIT_MIRROR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_figure_left():
    """A figure that a test leaves open would be shown with those of the next one."""
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def colours(tmp_path_factory):
    """A data set that is learned in seconds: three noisy colours, 12 images of each to train and 4 to test."""
    folder = tmp_path_factory.mktemp("data") / "colours"
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 4)):
        for name, colour in COLOURS.items():
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(np.array(colour) + rng.normal(0, 30, (16, 16, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{i}.png")
    return folder


@pytest.fixture
def food(tmp_path):
    """The folder of a data set of this test's own: three dishes, four images of each to train and two to test."""
    return write_set(tmp_path / "food")


@pytest.fixture
def gpu(request):
    """A machine with a GPU: an H100, or the card that the test names by indirect parametrisation."""
    with fake_gpu(getattr(request, "param", "H100")) as gpu:
        yield gpu
