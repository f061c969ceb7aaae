"""How a folder is laid out as a data set: by splits and classes, by classes alone, or by a table.

    layout = find_layout("photos")
    print(layout.words)  # how it was understood
"""
import contextlib
import csv
import io
import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from going_modular.datasets.folders import (
    EXPECTED,
    NO_CLASSES,
    SPLITS,
    Listing,
    images_in,
    in_words,
    is_image,
    list_classes,
    split,
    walk,
)
from going_modular.datasets.images import DataError, ImageFiles

Samples = list[tuple[Path, int]]  # (path, label); a label is the place of a class among the names
TEST_FRACTION, TEST_SEED = 0.2, 0  # of the test set where a folder has none: the same in all runs


@dataclass
class Layout:
    """A folder, understood as a data set."""

    train: Samples
    val: Samples  # to choose the best epoch by; may be empty
    test: Samples
    class_names: list[str]
    folder: Path  # which holds it: the one that was given, or the one below or above that does
    words: str  # how it was understood, where that is not plain from train/CLASS/ and test/CLASS/


def find_layout(folder: str | Path) -> Layout:
    """Understand a folder as a data set. It, or the one folder in it, may hold
    - {train, val, test}/CLASS/, also in the other spellings of SPLITS; val and test may be missing;
    - CLASS/ alone;
    - images, and beside them a table such as labels.csv with two columns, file and class.
    Without a test set a fifth of each class becomes one, the same each time.

    Raises DataError where it holds none of these, or may be two of them.
    """
    folder = Path(folder)
    listings, notes, root = _understand(folder.resolve().parent if _is_split(folder) else folder)
    if root != folder:
        notes.insert(0, f"found in {root}")
    if "val" in listings and "test" not in listings:
        listings["test"] = listings.pop("val")
        notes.append(f"{listings['test'].source.name} is the test set, as there is no other")
    samples, classes = label(listings)
    if "test" not in samples:
        samples["train"], samples["test"] = _split_off_test(samples["train"], classes)
        notes.append("there is no test set, so a fifth of each class is one, the same each time")
    if "val" in samples:
        notes.append(f"{listings['val'].source.name} chooses the best epoch")
    if left_out := sum((listing.left_out for listing in listings.values()), Counter()):
        notes.append(f"files that are no images are left out: {in_words(left_out)}")
    return Layout(samples["train"], samples.get("val", []), samples["test"], classes, root,
                  "; ".join(notes))


def _understand(folder: Path) -> tuple[dict[str, Listing], list[str], Path]:
    """(listing of each split, what is to be told, the folder that holds them). Images that are in
    no split are in "train"."""
    folders, files = walk(folder, deep=False)
    names, loose = [path.name for path in folders], sum(map(is_image, files))
    if splits := split_folders(folder):
        notes = [f"{path.name} holds no class folders, and is left out" for path in folders
                 if split_of(path.name) and path not in splits.values()]
        if any(path.name != part for part, path in splits.items()):
            notes.append(f"its parts are {', '.join(path.name for path in splits.values())}")
        return {part: list_classes(path) for part, path in splits.items()}, notes, folder

    has_classes = not all(name.lower() in NO_CLASSES for name in names)
    if tables := _read_tables(folder, files):
        table = next(iter(tables.values())).source.name
        agree = all(path.parent.name == name for listing in tables.values()
                    for name, images in listing.images.items() for path in images)
        if len(names) > 1 and has_classes and not agree:
            raise DataError(f"{folder} holds the folders {', '.join(names[:3])} and {table}, and "
                            "either may name the classes; move the table away, or all images into "
                            "one folder")
        unnamed = len(images_in(folder)) - sum(
            len(images) for listing in tables.values() for images in listing.images.values())
        notes = [f"{table} names the classes"]
        notes += [_left_out(unnamed, "without a class")] if unnamed else []
        return tables, notes, folder

    # A data set that was packed with a folder around it, perhaps with a README beside that.
    inner = [path for path in folders if split_folders(path)]
    if len(inner) > 1:
        raise DataError(f"{folder} holds several data sets, {inner[0].name} and {inner[1].name}; "
                        "choose one of them")
    if len(folders) == 1:
        its_folders, its_files = walk(folders[0], deep=False)
        inner = folders if its_folders or _tables(its_files) else []
    beside = [_left_out(loose, "beside its folders")] if loose else []
    if inner:
        listings, notes, root = _understand(inner[0])
        return listings, notes + beside, root

    if not has_classes and (names or loose):
        found = ", ".join(names) or f"{loose} images"
        raise DataError(f"{folder} holds {found}, but no class folders; put images into "
                        f"{folder}/CLASS/, one folder a class, or add a labels.csv with two "
                        "columns, file and class")
    listing = list_classes(folder)
    inside = [{path.name for path in walk(path, deep=False)[0]} for path in folders]
    if len(inside) > 1 and len(inside[0]) > 1 and all(each == inside[0] for each in inside):
        raise DataError(f"{folder} holds {', '.join(names[:3])}, and each of them the same folders "
                        f"({', '.join(sorted(inside[0])[:3])}); choose one of them")
    return {"train": listing}, beside, folder


def _left_out(count: int, which: str) -> str:
    return f"1 image {which} is left out" if count == 1 else f"{count} images {which} are left out"


# ------------------------------------------------------------------------------
# Splits


def split_of(name: str) -> str | None:
    """The split that the name of a folder or table stands for: "seg_train" is "train"."""
    words = set(re.split(r"[\W\d_]+", name.casefold()))
    return next((part for part, names in SPLITS.items() if words & names), None)


def split_folders(folder: Path) -> dict[str, Path]:
    """The folders of the splits in a folder: "train", and "val" and "test" where they are there.
    {} where it is not laid out so.

    Raises DataError where two folders may be the same split, or where there is no training set.
    """
    found = defaultdict(list)
    for path in walk(folder, deep=False)[0]:
        # A class may be called train, too: it holds images, not folders.
        if (part := split_of(path.name)) and walk(path, deep=False)[0]:
            found[part].append(path)
    plain = {part: named for part, paths in found.items()
             if (named := [path for path in paths if path.name.casefold() in SPLITS[part]])}
    # A single name that only has such a word in it may be that of a class.
    if not plain and ("train" not in found or len(found) < 2):
        return {}
    found |= plain
    for part, paths in found.items():
        if len(paths) > 1:
            raise DataError(f"{folder} holds {paths[0].name} and {paths[1].name}, and only one "
                            f"can be the {part} set; rename the other, or move it away")
    if "train" not in found:
        raise DataError(f"{folder / 'train'}: no such folder; {EXPECTED}")
    return {part: found[part][0] for part in SPLITS if part in found}


def _is_split(folder: Path) -> bool:
    """Whether a folder is a part of a data set that lies around it, rather than one itself."""
    path = folder.resolve()
    if path.name.casefold() in set.union(*SPLITS.values()) and not split_folders(folder):
        with contextlib.suppress(DataError):
            around = split_folders(path.parent)
            return len(around) > 1 and path in around.values()
    return False


def _split_off_test(samples: Samples, classes: list[str]) -> tuple[Samples, Samples]:
    """(training samples, test samples), TEST_FRACTION of each class."""
    counts = Counter(label for _, label in samples)
    if lonely := [label for label, count in counts.items() if count == 1]:
        raise DataError(f"the class {classes[lonely[0]]} has just one image, where training and "
                        "test need one each; add images, or a test folder")
    train, test = split(ImageFiles(samples, classes), TEST_FRACTION, TEST_SEED)
    return [samples[index] for index in train.indices], [samples[index] for index in test.indices]


# ------------------------------------------------------------------------------
# Class names


def _normal(name: str) -> str:
    """A name as it is read: macOS stores an accent apart from its letter."""
    return unicodedata.normalize("NFC", name).strip()


def _class_of(name: str, listing: Listing, train: Listing) -> str:
    """The class of the training set that a class of another split is: of the same name, or of the
    only one that differs in nothing but case, Unicode form, or spaces at its ends.

    Raises DataError where there is none, or more than one.
    """
    if name in train.images:
        return name
    same = _normal(name).casefold()
    theirs, ours = ([other for other in one.images
                     if _normal(other).casefold() == same and other not in another.images]
                    for one, another in ((train, listing), (listing, train)))
    if not theirs:
        raise DataError(f"{train.source} lacks the class {name} of {listing.source}; "
                        "both must hold the same class folders")
    if len(theirs) > 1 or len(ours) > 1:
        raise DataError(f"{' and '.join(map(repr, ours))} of {listing.source} may be "
                        f"{' or '.join(map(repr, theirs))} of {train.source}; rename them alike")
    return theirs[0]


def label(listings: dict[str, Listing]) -> tuple[dict[str, Samples], list[str]]:
    """(samples of each split, class names), sorted by name.

    Raises DataError unless all splits hold the same classes, two or more.
    """
    train = listings["train"]
    shown = {name: _normal(name) for name in train.images}
    if len(set(shown.values())) < len(shown):
        shown = {name: name for name in shown}
    classes = sorted(train.images, key=lambda name: shown[name])
    samples = {}
    for part, listing in listings.items():
        images = {_class_of(name, listing, train): paths for name, paths in listing.images.items()}
        if missing := set(classes) - set(images):
            raise DataError(f"{listing.source} lacks the class {min(missing)} of {train.source}; "
                            "both must hold the same class folders")
        samples[part] = [(path, number) for number, name in enumerate(classes)
                         for path in images[name]]
    if len(classes) < 2:
        raise DataError(f"{train.source} holds just one class, {classes[0]}; "
                        "add a folder of images for each other class")
    return samples, [shown[name] for name in classes]


def list_train_and_test(train_dir: str | Path, test_dir: str | Path
                        ) -> tuple[Samples, Samples, list[str]]:
    """The images of two folders of classes -> (training samples, test samples, class names).

    Raises DataError unless both folders hold the same classes, two or more.
    """
    for folder in map(Path, (train_dir, test_dir)):
        if folder.is_dir() and (splits := split_folders(folder)):
            raise DataError(f"{folder} holds {' and '.join(path.name for path in splits.values())},"
                            f" not classes; give the folder {splits['train']}")
    samples, classes = label({"train": list_classes(train_dir), "test": list_classes(test_dir)})
    return samples["train"], samples["test"], classes


# ------------------------------------------------------------------------------
# Tables


def _tables(files: list[Path]) -> list[Path]:
    """Tables that may name classes; those of Kaggle called submission are made up."""
    return [path for path in files
            if path.suffix.lower() == ".csv" and "submission" not in path.name.lower()]


def _read_tables(folder: Path, files: list[Path]) -> dict[str, Listing]:
    """The images of each split by tables such as labels.csv, or train.csv and val.csv, among the
    files of a folder; {} where none names training images.

    Raises DataError where two tables may be of the same split.
    """
    tables = _tables(files)
    # An image may be named by its path, or by its name where that is enough, with or without its
    # ending.
    images: dict[str, set[Path]] = defaultdict(set)
    for path in images_in(folder) if tables else []:
        for key in (path.relative_to(folder), Path(path.name)):
            images[_normal(key.as_posix())].add(path)
            images[_normal(key.with_suffix("").as_posix())].add(path)
    listings: dict[str, Listing] = {}
    for table in tables:
        if listing := _read_table(table, images):
            part = split_of(table.stem) or "train"
            if part in listings:
                raise DataError(f"{folder} holds {listings[part].source.name} and {table.name}, and "
                                f"only one can name the classes of the {part} set; move the other "
                                "away")
            listings[part] = listing
    return listings if "train" in listings else {}


def _read_table(table: Path, images: dict[str, set[Path]]) -> Listing | None:
    """The images and classes that a table of two columns names, or None where it is no such table.
    The order of the columns is free, and so are a line of headings and a column of line numbers.

    Raises DataError where it names an image that is not there, or one twice.
    """
    def image(cell: str) -> Path | None:
        name = cell.replace("\\", "/")
        found = (images.get(key, set()) for key in
                 (name, f"{table.stem}/{name}", name.rpartition("/")[2]))
        return next((next(iter(paths)) for paths in found if len(paths) == 1), None)

    try:
        text = table.read_text(encoding="utf-8-sig")
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(row)]
    except PermissionError:
        raise DataError(f"{table}: you may not read this file; change its permissions") from None
    except (UnicodeDecodeError, csv.Error):
        return None
    if rows and not rows[0][0]:  # pandas writes line numbers, without a heading
        rows = [row[1:] for row in rows]
    if not rows or any(len(row) != 2 for row in rows):
        return None
    pairs = [(_normal(first), _normal(second)) for first, second in rows]
    if sum(bool(image(second)) for _, second in pairs) > sum(bool(image(first)) for first, _ in pairs):
        pairs = [(second, first) for first, second in pairs]
    if not image(pairs[0][0]):
        pairs = pairs[1:]
    if not any(image(name) for name, _ in pairs):
        return None
    listing, seen = Listing(table, defaultdict(list)), set()
    for name, class_name in pairs:
        path = image(name)
        if path is None or path in seen:
            raise DataError(f"{table} names {name}, "
                            + ("an image for the second time; delete one of the lines" if path else
                               "and there is no one image of that name; add it, or delete the line"))
        seen.add(path)
        listing.images[class_name].append(path)
    for paths in listing.images.values():
        paths.sort()
    return listing
