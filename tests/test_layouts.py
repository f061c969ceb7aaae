"""Folders as people have them: from a phone, Kaggle, Roboflow, OpenImages, Windows, macOS, a NAS."""
import io
import os
import random
import tarfile
import unicodedata
import zipfile

import pytest
from data_files import content, message_of, write_images, write_set
from PIL import Image

from going_modular import config, data_setup, train
from going_modular.data_setup import DataError
from going_modular.datasets.layouts import find_layout
from going_modular.utils import pick_device


def of(folder, **counts):
    """Write images of two classes to folder/PART/CLASS/, so many of each; returns the folder."""
    for part, count in counts.items():
        write_images(folder / part, classes=("cat", "dog"), count=count)
    return folder


def sizes(layout):
    return len(layout.train), len(layout.val), len(layout.test)


@pytest.mark.parametrize("parts, expected, words", [
    (dict(train=4, test=2), (8, 0, 4), ""),
    (dict(train=4, val=3, test=2), (8, 6, 4), "val chooses the best epoch"),
    (dict(train=4, valid=3, test=2), (8, 6, 4), "its parts are train, valid, test; valid chooses the best epoch"),
    (dict(Training=4, Validation=3, Testing=2), (8, 6, 4),
     "its parts are Training, Validation, Testing; Validation chooses the best epoch"),
    (dict(seg_train=4, seg_test=2), (8, 0, 4), "its parts are seg_train, seg_test"),
    (dict(train=4, val=3), (8, 0, 6), "val is the test set, as there is no other"),
    (dict(train=10), (16, 0, 4), "there is no test set, so a fifth of each class is one, the same each time"),
    ({".": 10}, (16, 0, 4), "there is no test set, so a fifth of each class is one, the same each time"),
])
def test_splits(tmp_path, parts, expected, words):
    layout = find_layout(of(tmp_path / "set", **parts))
    assert (sizes(layout), layout.words, layout.class_names) == (expected, words, ["cat", "dog"])
    assert {path.parent.name for path, label in layout.train if label == 1} == {"dog"}
    assert not {path for path, _ in layout.train} & {path for path, _ in layout.test}


def test_a_class_may_be_called_train(tmp_path):
    write_images(tmp_path / "set", classes=("car", "train"), count=5)
    assert find_layout(tmp_path / "set").class_names == ["car", "train"]


def test_a_folder_without_a_test_set_is_split_in_the_same_way_each_time(tmp_path, monkeypatch):
    write_images(tmp_path / "set", classes=("cat", "dog"), count=20)
    first = find_layout(tmp_path / "set")
    assert [label for _, label in first.test] == [0] * 4 + [1] * 4
    walk = os.walk

    def shuffled(*args, **options):
        for here, folders, files in walk(*args, **options):
            random.Random(1).shuffle(folders)
            random.Random(2).shuffle(files)
            yield here, folders, files

    monkeypatch.setattr(os, "walk", shuffled)  # as another file system lists them
    (tmp_path / "set").rename(tmp_path / "elsewhere")
    again = find_layout(tmp_path / "elsewhere")
    for part in ("train", "test"):
        assert ([path.relative_to(tmp_path / "elsewhere") for path, _ in getattr(again, part)]
                == [path.relative_to(tmp_path / "set") for path, _ in getattr(first, part)])


def test_the_validation_set_chooses_the_best_epoch(tmp_path):
    data = data_setup.load(of(tmp_path / "set", train=4, val=3, test=2))
    assert "set: 8 training, 6 validation and 4 test images of 2 classes, from" in data.note
    device = pick_device("cpu")
    options = config.complete({"image_size": 16, "layers": 1}, data, device)
    trainer = train.build_trainer(train.build_model(options, 2), data, options, device)
    assert [len(trainer.loaders[part].dataset) for part in ("train", "val", "test")] == [8, 6, 4]
    with pytest.raises(ValueError, match="the data have a validation set to choose best.pt: leave out --hold-out"):
        config.complete({"hold_out": 0.2}, data, device)


@pytest.mark.parametrize("inside", ["archive", "a/b"])
@pytest.mark.parametrize("parts", [dict(train=4, test=2), {".": 5}])
def test_one_level_too_high(tmp_path, inside, parts):
    of(tmp_path / "set" / inside, **parts)
    (tmp_path / "set" / "README.md").write_text("A data set")
    (tmp_path / "set" / "birds.csv").write_text("index,path,class,split\n0,train/cat/0.png,cat,train\n")
    (tmp_path / "set" / "__MACOSX").mkdir()
    layout = find_layout(tmp_path / "set")
    assert layout.words.startswith(f"found in {tmp_path / 'set' / inside}")
    assert sizes(layout) == (8, 0, 4) if "train" in parts else (8, 0, 2)


@pytest.mark.parametrize("parts", [dict(cat=5, dog=5), {"archive/train": 5, "archive/test": 5}])
def test_pictures_beside_the_folders_are_told(tmp_path, parts):
    for part, count in parts.items():
        write_images(tmp_path / "set" / part, classes=("cat", "dog") if "archive" in part else (".",), count=count)
    Image.new("RGB", (4, 4)).save(tmp_path / "set" / "sample.png")
    layout = find_layout(tmp_path / "set")
    assert layout.class_names == ["cat", "dog"] and "1 image beside its folders is left out" in layout.words


def test_one_level_too_high_within_a_split(tmp_path):
    of(tmp_path / "set", **{"seg_train/seg_train": 4, "seg_test/seg_test": 2})
    assert sizes(find_layout(tmp_path / "set")) == (8, 0, 4)
    loader, _, _ = data_setup.create_dataloaders(
        tmp_path / "set" / "seg_train", tmp_path / "set" / "seg_test", data_setup.eval_transform(8), 4, 0)
    assert len(loader.dataset) == 8
    with pytest.raises(DataError, match="set holds seg_train and seg_test, not classes; give the folder .*seg_train"):
        data_setup.create_dataloaders(tmp_path / "set", tmp_path / "set", data_setup.eval_transform(8), 4, 0)


def test_one_level_too_low(tmp_path, monkeypatch):
    of(tmp_path / "set", train=4, test=2)
    layout = find_layout(tmp_path / "set" / "train")
    assert sizes(layout) == (8, 0, 4) and layout.words == f"found in {tmp_path / 'set'}"
    monkeypatch.chdir(tmp_path / "set" / "train")
    assert sizes(find_layout(".")) == (8, 0, 4)


# ---------------------------------------------------------------------------------------------------------------------
# What lies in class folders


def test_folders_that_are_no_classes(tmp_path):
    of(tmp_path / "set", train=4, test=2)
    for name in ("__pycache__", "@eaDir", "lost+found", ".ipynb_checkpoints", "$RECYCLE.BIN", "__MACOSX"):
        Image.new("RGB", (4, 4)).save((tmp_path / "set" / "train" / "cat" / name).mkdir() or (
            tmp_path / "set" / "train" / "cat" / name / "thumb.png"))
        (tmp_path / "set" / "train" / name).mkdir()
    assert find_layout(tmp_path / "set").class_names == ["cat", "dog"]
    assert sizes(find_layout(tmp_path / "set")) == (8, 0, 4)


def test_what_is_left_out_is_told_by_ending(tmp_path):
    of(tmp_path / "set", train=4, test=2)
    cat = tmp_path / "set" / "train" / "cat"
    for name in ("a.txt", "b.TXT", "c.mov", "d", "Thumbs.db", "desktop.ini", ".hidden.txt"):
        (cat / name).write_text("x")
    for name in ("a.jfif", "b.jpe", "IMG_1234.JPG", "c.avif", "d.HEIC", "e.jp2", "f.tga", "g.ico"):
        (cat / name).write_text("x")
    layout = find_layout(tmp_path / "set")
    assert layout.words == "files that are no images are left out: 2 .txt, 1 .mov, 1 no ending"
    assert len(layout.train) == 16


def test_a_class_of_other_files_alone_is_not_to_be_deleted(tmp_path):
    of(tmp_path / "set", train=4, test=2)
    for name in ("0.png", "1.png", "2.png", "3.png"):
        path = tmp_path / "set" / "train" / "dog" / name
        path.rename(path.with_suffix(".psd"))
    with pytest.raises(DataError, match=r"dog holds no images, but 4 \.psd; save those as JPEG or PNG, or") as error:
        find_layout(tmp_path / "set")
    assert "delete" not in message_of(error)


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    of(tmp_path / "set", train=4, test=2)
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # chmod does not stop root
    with pytest.raises(DataError, match="train/dog: you may not read this folder; change its permissions") as error:
        data_setup.load(tmp_path / "set")
    message_of(error)


def test_linked_folders_are_followed(tmp_path):
    write_images(tmp_path / "elsewhere", classes=("cat", "dog"), count=5)
    (tmp_path / "set" / "cat").mkdir(parents=True)
    (tmp_path / "set" / "cat" / "more").symlink_to(tmp_path / "elsewhere" / "cat")
    (tmp_path / "set" / "dog").symlink_to(tmp_path / "elsewhere" / "dog")
    (tmp_path / "set" / "cat" / "loop").symlink_to(tmp_path / "set")
    layout = find_layout(tmp_path / "set")
    assert (sizes(layout), layout.class_names) == ((8, 0, 2), ["cat", "dog"])


# ---------------------------------------------------------------------------------------------------------------------
# Names of classes


NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


@pytest.mark.parametrize("names, others, shown", [
    ((NFD, "tea"), (NFC, "tea"), [NFC, "tea"]), ((NFC, "tea"), (NFD, "tea"), [NFC, "tea"]),
    (("Cat", "dog"), ("cat", "DOG"), ["Cat", "dog"]), (("cat ", "dog"), ("cat", "dog "), ["cat", "dog"]),
    (("Cat", "cat"), ("Cat", "cat"), ["Cat", "cat"]), (("cat", "cat "), ("cat", "cat "), ["cat", "cat "])])
def test_names_that_differ_in_nothing_that_counts_are_one_class(tmp_path, names, others, shown):
    write_images(tmp_path / "train", classes=names)
    write_images(tmp_path / "test", classes=others)
    layout = find_layout(tmp_path)
    assert layout.class_names == shown
    for path, label in (*layout.train, *layout.test):
        assert unicodedata.normalize("NFC", path.parent.name).strip().casefold() == shown[label].strip().casefold()


@pytest.mark.parametrize("names, others, expected", [
    (("Cat", "cat", "dog"), ("CAT", "dog"), ["'CAT' of", "may be 'Cat' or 'cat' of", "rename them alike"]),
    (("CAT", "dog"), ("Cat", "cat", "dog"), ["'Cat' and 'cat' of", "may be 'CAT' of"]),
    (("cat", "dog"), ("cat", "Cat", "dog"), ["train lacks the class Cat of"])])
def test_names_that_may_be_two_classes_are_named(tmp_path, names, others, expected):
    write_images(tmp_path / "train", classes=names)
    write_images(tmp_path / "test", classes=others)
    with pytest.raises(DataError) as error:
        find_layout(tmp_path)
    assert [part for part in expected if part not in message_of(error)] == []


# ---------------------------------------------------------------------------------------------------------------------
# Tables


def write_table(folder, text, images="images", count=5, encoding="utf-8", name="labels.csv"):
    """Write images cat0.png ... dog4.png, and a table of them: a line as `text` for each, after its first line."""
    for animal in ("cat", "dog"):
        for i in range(count):
            (folder / images).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(folder / images / f"{animal[0]}{i}.png")
    head, line = text.split("\n")
    lines = [line.format(id=f"{animal[0]}{i}", animal=animal, number=i) for animal in ("cat", "dog")
             for i in range(count)]
    (folder / name).write_text("\n".join(filter(None, [head, *lines])), encoding=encoding)
    return folder


@pytest.mark.parametrize("text", [
    "file,class\n{id}.png,{animal}", "id,breed\n{id},{animal}", "\n{animal};images/{id}.png",
    ",label,path\n{number},{animal},images\\{id}.png", "file\tclass\ndownloads/images/{id}.png\t{animal}"])
def test_a_table_beside_images(tmp_path, text):
    layout = find_layout(write_table(tmp_path / "set", text, encoding="utf-8-sig"))
    assert (sizes(layout), layout.class_names) == ((8, 0, 2), ["cat", "dog"])
    assert all(path.name[0] == layout.class_names[label][0] for path, label in layout.train + layout.test)
    assert layout.words.startswith("labels.csv names the classes; there is no test set")


def test_a_competition_of_kaggle(tmp_path):
    write_table(tmp_path / "set", "id,label\n{id},{animal}", images="train", name="train.csv")
    write_images(tmp_path / "x", classes=("test",), count=3)
    (tmp_path / "x" / "test").rename(tmp_path / "set" / "test")
    (tmp_path / "set" / "sample_submission.csv").write_text("id,label\n0,cat\n1,cat\n2,cat\n")
    layout = find_layout(tmp_path / "set")
    assert sizes(layout) == (8, 0, 2) and "3 images without a class are left out" in layout.words
    (tmp_path / "set" / "test.csv").write_text("id,label\n0,cat\n1,dog\n2,dog\n")
    assert sizes(find_layout(tmp_path / "set")) == (10, 0, 3)


@pytest.mark.parametrize("change, expected", [
    (lambda text: text + "\nd9,dog", "labels.csv names d9, and there is no one image of that name"),
    (lambda text: text + "\nd1,cat", "labels.csv names d1, an image for the second time"),
    (lambda text: text.replace(",", ",x,"), "holds images, but no class folders; .*labels.csv with two columns")])
def test_tables_that_cannot_be_used(tmp_path, change, expected):
    table = write_table(tmp_path / "set", "id,label\n{id},{animal}") / "labels.csv"
    table.write_text(change(table.read_text()))
    with pytest.raises(DataError, match=expected) as error:
        find_layout(tmp_path / "set")
    message_of(error)


# ---------------------------------------------------------------------------------------------------------------------
# What may be two things, or nothing


@pytest.mark.parametrize("parts, expected", [
    (dict(train=2, training=2, test=2), "holds train and training, and only one can be the train set"),
    ({"a/train": 2, "b/train": 2}, "holds several data sets, a and b; choose one"),
    (dict(test=2), "train: no such folder; a data set is a folder with train/CLASS/ and test/CLASS/"),
    ({"colour": 2, "grey": 2}, "holds colour, grey, and each of them the same folders .cat, dog.; choose one"),
    ({".": 1}, "the class cat has just one image, where training and test need one each; add images, or a test"),
    ({}, "holds no images, but 1 .zip; put them into .*/CLASS/, one folder a class"),
    ({"train/images": 2, "train/labels": 2}, "train holds images, labels, but no class folders")])
def test_folders_that_are_no_data_set(tmp_path, parts, expected):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.zip").write_text("x")
    with pytest.raises(DataError, match=expected) as error:
        find_layout(of(tmp_path / "set", **parts))
    message_of(error)


@pytest.mark.parametrize("where, expected", [
    (".", "holds 2 images, but no class folders; put images into"),
    ("train/train", "train holds train, but no class folders"),  # as dogs-vs-cats, where names name the class
    ("images", "holds images, but no class folders")])
def test_images_without_class_folders(tmp_path, where, expected):
    (tmp_path / "set" / where).mkdir(parents=True)
    for name in ("cat.0.jpg", "dog.0.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / "set" / where / name)
    with pytest.raises(DataError, match=expected):
        find_layout(tmp_path / "set")


def test_folders_and_a_table_that_contradict_each_other(tmp_path):
    write_table(tmp_path / "set", "id,label\n{id},{animal}", images="part_1")
    write_images(tmp_path / "set", classes=("part_2",), count=3)
    with pytest.raises(DataError, match="the folders part_1, part_2 and labels.csv, and either may name the classes"):
        find_layout(tmp_path / "set")


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "photos.zip").write_text("x")
    with pytest.raises(DataError, match="photos.zip is a file; unpack it, and name the folder"):
        data_setup.load(tmp_path / "photos.zip")


# ---------------------------------------------------------------------------------------------------------------------
# Archives


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("VIT_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.mark.parametrize("ending", ["zip", "tar.gz", "tar.xz", "tar"])
def test_an_archive_with_a_folder_around_and_files_beside_it(tmp_path, root, food, ending, capsys):
    path = tmp_path / f"food.{ending}"
    beside = {"README.md": b"A data set", "labels.csv": b"a,b,c\n1,2,3\n", "__MACOSX/food/._train": b"x"}
    if ending == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in food.rglob("*.png"):
                archive.write(file, file.relative_to(tmp_path))
            for name, data in beside.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(path, f"w:{ending.rpartition('.')[2]}" if "." in ending else "w") as archive:
            archive.add(food, "food")
            for name, data in beside.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    assert content(data_setup.download_data(path, "food")) == ["test", "train"]
    assert content(root) == ["food"] and len(data_setup.load(root / "food").train) == 12


def test_an_archive_of_windows(tmp_path, root, food):
    with zipfile.ZipFile(tmp_path / "food.zip", "w") as archive:
        for file in food.rglob("*.png"):
            entry = zipfile.ZipInfo("x")
            entry.filename = str(file.relative_to(tmp_path)).replace("/", "\\")
            archive.writestr(entry, file.read_bytes())
    assert content(data_setup.download_data(tmp_path / "food.zip", "food")) == ["test", "train"]


def test_an_archive_of_class_folders(tmp_path, root, capsys):
    write_images(tmp_path / "set", count=5)
    with tarfile.open(tmp_path / "set.tgz", "w:gz") as archive:
        archive.add(tmp_path / "set", "set")
    for _ in range(2):
        assert content(data_setup.download_data(tmp_path / "set.tgz", "mine")) == ["pizza", "steak", "sushi"]
        assert "there is no test set, so a fifth of each class is one" in capsys.readouterr().out


@pytest.mark.parametrize("name, kind", [("../evil.png", tarfile.REGTYPE), ("/evil.png", tarfile.REGTYPE),
                                        ("train/cat/evil.png", tarfile.SYMTYPE), ("train/pipe", tarfile.FIFOTYPE)])
def test_a_tar_that_would_leave_its_folder(tmp_path, root, food, name, kind):
    with tarfile.open(tmp_path / "food.tar.gz", "w:gz") as archive:
        archive.add(food, ".")
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, "/etc/passwd"
        archive.addfile(entry)
    with pytest.raises(DataError, match="food.tar.gz is refused: its entry .* leaves the folder"):
        data_setup.download_data(tmp_path / "food.tar.gz", "food")
    assert content(root) == [] and not list(tmp_path.rglob("evil*"))


def test_a_read_only_data_folder_is_enough_to_read(tmp_path, monkeypatch):
    write_set(tmp_path / "data" / "food")
    write_set(tmp_path / "data" / "drawn")
    read_only(monkeypatch, tmp_path / "data")
    before = sorted(tmp_path.rglob("*"))
    assert len(data_setup.load(tmp_path / "data" / "food").train) == len(data_setup.load("drawn").train) == 12
    assert sorted(tmp_path.rglob("*")) == before


def read_only(monkeypatch, folder):
    """Take a folder for the data folder, in which nothing can be made; chmod does not stop root."""
    def refuse(path, *_, **__):
        raise OSError(30, "Read-only file system", str(path))
    monkeypatch.setenv("VIT_DATA", str(folder))
    monkeypatch.setattr(os, "mkdir", refuse)


def test_a_data_folder_that_is_read_only_is_told(tmp_path, monkeypatch):
    read_only(monkeypatch, tmp_path / "data")
    with pytest.raises(DataError, match="cannot write to .*data .*Read-only file system.*; point VIT_DATA at a folder"):
        data_setup.load("drawn")
