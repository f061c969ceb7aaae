"""Broken files of all kinds: a clear error or a right result, no code run, nothing written outside its folder.

A few hundred here; `make soak` tries FUZZ=20000 of each kind.
"""
import io
import os
import pickle
import random
import tarfile
import warnings
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from going_modular import data_setup, utils, weights
from going_modular.data_setup import DataError
from going_modular.datasets import images
from going_modular.utils import CheckpointError
from going_modular.vit import ViT
from going_modular.weights import WeightsError

TRIES = int(os.environ.get("FUZZ", 150))
SIZES = {"image_size": 16, "patch_size": 8, "num_classes": 3, "num_layers": 1, "hidden_size": 8, "mlp_size": 16,
         "num_heads": 2}


def broken(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one to four faults: a byte changed, some lost, doubled or overwritten, the end cut off."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(data)), rng.randint(1, 40)
        kind = rng.randrange(5)
        if kind == 0:
            data[at] = rng.randrange(256)
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at:at] = data[at : at + length]
        elif kind == 3:
            data[at : at + length] = rng.randbytes(min(length, len(data) - at))
        else:
            del data[rng.randrange(len(data) // 2, len(data)) :]
        if not data:
            return b""
    return bytes(data)


def one_line(error: Exception) -> bool:
    return 10 < len(str(error)) < 2000 and "\n" not in str(error) and "Traceback" not in str(error)


def files_below(folder) -> dict:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def image_bytes(kind: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    file, options = io.BytesIO(), {}
    image = Image.fromarray(pixels)
    if kind == "JPEG":
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = 6  # turned by 90 degrees
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", [*images.readable_formats(), "TGA"])
def test_broken_images(tmp_path, kind):
    rng, whole, path = random.Random(kind), image_bytes(kind), tmp_path / f"image.{kind}"
    path.write_bytes(whole)
    assert data_setup.read_image(path).mode == "RGB"
    refused = 0
    for _ in range(TRIES):
        path.write_bytes(broken(whole, rng))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the decoders
                assert data_setup.read_image(path).mode == "RGB"
        except DataError as error:
            refused += 1
            assert one_line(error) and str(path) in str(error)
    assert refused > TRIES / 50


@pytest.fixture
def tar_archive(tmp_path):
    """A sound tar.gz of a data set, as bytes."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as target:
        for part in ("train", "test"):
            for name in ("a", "b"):
                entry, data = tarfile.TarInfo(f"{part}/{name}/0.png"), image_bytes("PNG")
                entry.size = len(data)
                target.addfile(entry, io.BytesIO(data))
    return file.getvalue()


@pytest.fixture
def archive(tmp_path):
    """A sound zip of a data set, as bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        for part in ("train", "test"):
            for name in ("a", "b"):
                target.writestr(f"{part}/{name}/0.png", image_bytes("PNG"))
    return file.getvalue()


@pytest.mark.parametrize("kind", ["archive", "tar_archive"])
def test_broken_archives(tmp_path, request, kind, monkeypatch):
    archive = request.getfixturevalue(kind)
    root, source, rng = tmp_path / "data", tmp_path / "source.zip", random.Random(1)
    monkeypatch.setenv("VIT_DATA", str(root))
    root.mkdir()
    refused = 0
    for _ in range(TRIES):
        source.write_bytes(broken(archive, rng))
        before = files_below(tmp_path)
        try:
            folder = data_setup.download_data(source, "set")
        except DataError as error:
            refused += 1
            assert one_line(error)
            assert files_below(tmp_path) == before, "something was left behind"
        else:
            changed = {path for path, content in files_below(tmp_path).items() if before.get(path) != content}
            assert folder == root / "set" and all(path.parts[:2] == ("data", "set") for path in changed)
            for path in sorted(folder.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            folder.rmdir()
    assert refused > TRIES / 2


@pytest.mark.parametrize("prefix", ["../", "../../", "/", "a/../../", "..\\", "C:\\", "//host/share/",
                                    "train/a/../../../"])
def test_archives_that_would_leave_their_folder(tmp_path, archive, monkeypatch, prefix):
    root, source = tmp_path / "data" / "inner", tmp_path / "source.zip"
    monkeypatch.setenv("VIT_DATA", str(root))
    source.write_bytes(archive)
    with zipfile.ZipFile(source, "a") as target:
        target.writestr(f"{prefix}caught.png", b"caught")
    with pytest.raises(DataError, match="is refused"):
        data_setup.download_data(source, "set")
    assert list(files_below(tmp_path)) == [source.relative_to(tmp_path)]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Files that hold weights, each with what reads it: (bytes, suffix, reader, the error it may raise)."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    model = ViT(**SIZES)
    ours = {"model": model.state_dict(), "architecture": model.settings, "settings": {}, "class_names": list("abc"),
            "epoch": 1}
    torch.save(ours, folder / "last.pt")
    weights.save_as(ViT(**SIZES, gelu="tanh"), "official", folder / "weights.npz")
    weights.save_as(model, "timm", folder / "weights.safetensors")

    def load_into_a_model(path):
        return weights.load(ViT(**SIZES, gelu="tanh" if path.suffix == ".npz" else "erf"), path)

    return {"last.pt": (utils.load_model, CheckpointError), "weights.npz": (load_into_a_model, WeightsError),
            "weights.safetensors": (load_into_a_model, WeightsError)}, folder


KINDS = ["last.pt", "weights.npz", "weights.safetensors"]


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoints_cut_short_at_each_percent(tmp_path, checkpoints, kind):
    readers, folder = checkpoints
    read, expected = readers[kind]
    whole, path = (folder / kind).read_bytes(), tmp_path / kind
    path.write_bytes(whole)
    read(path)
    for percent in range(100):
        path.write_bytes(whole[: len(whole) * percent // 100])
        with pytest.raises(expected) as error:
            read(path)
        assert one_line(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_broken_checkpoints(tmp_path, checkpoints, kind):
    readers, folder = checkpoints
    read, expected = readers[kind]
    whole, path, rng = (folder / kind).read_bytes(), tmp_path / kind, random.Random(kind)
    for _ in range(TRIES):
        path.write_bytes(broken(whole, rng))
        try:
            read(path)
        except expected as error:
            assert one_line(error)


class Code:
    """What runs when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("place", ["whole", "model", "settings", "old format", "plain pickle"])
def test_code_in_a_checkpoint_is_not_run(tmp_path, checkpoints, place):
    proof, path = tmp_path / "proof", tmp_path / "last.pt"
    checkpoint = torch.load(checkpoints[1] / "last.pt", weights_only=True)
    if place in ("model", "settings"):
        checkpoint[place] = {**checkpoint[place], "code": Code(proof)}
    values = checkpoint if place in ("model", "settings") else Code(proof)
    if place == "plain pickle":
        path.write_bytes(pickle.dumps(values))
    else:
        torch.save(values, path, _use_new_zipfile_serialization=place != "old format")
    for read, expected in ((utils.load_model, CheckpointError), (weights.open_source, WeightsError)):
        with pytest.raises(expected):
            read(path)
    assert not proof.exists()
