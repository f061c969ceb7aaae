"""Data sets in folders and archives, and broken images: the files that tests of data read."""
import zipfile

from PIL import Image

CLASSES = ("pizza", "steak", "sushi")


def write_images(folder, classes=CLASSES, count=2, size=(12, 9), suffix=".png"):
    """Write `count` images of each class to folder/CLASS/, each in a colour of its own."""
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", size, (40 * label, 20 * index, 100)).save(folder / name / f"{index}{suffix}")


def write_set(folder, train=4, test=2, **options):
    """Write a data set to folder/train/CLASS/ and folder/test/CLASS/; returns the folder."""
    write_images(folder / "train", count=train, **options)
    write_images(folder / "test", count=test, **options)
    return folder


def zip_folder(folder, path, prefix="", extra=()):
    """Pack a folder, and `extra` entries (name, content), to a zip; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, prefix + str(file.relative_to(folder)))
        for name, content in extra:
            archive.writestr(name, content)
    return path


def write_broken_image(path, kind):
    """Write what is no sound image: "empty", "text" or "truncated"."""
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("no image")
    else:
        Image.effect_noise((64, 64), 90).save(path)
        path.write_bytes(path.read_bytes()[:-500])


def message_of(error):
    """The message of an error that pytest.raises has caught, which must be one line."""
    message = str(error.value)
    assert message and "\n" not in message
    return message


def content(folder):
    """All that lies in a folder, hidden or not."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []
