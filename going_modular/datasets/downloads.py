"""Archives of data sets: fetched, checked, unpacked, and put in place only when they are whole."""
import contextlib
import errno
import lzma
import os
import stat
import struct
import tarfile
import tempfile
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import requests

from going_modular.datasets.folders import data_folder, is_visible
from going_modular.datasets.images import DataError, reason_of
from going_modular.datasets.layouts import find_layout

BOMB_BYTES, BOMB_RATIO = 2**31, 100  # an archive is refused that unpacks to more than both


@contextlib.contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Makes the folder; where the disk is full then or inside, or the folder can't be written,
    raises DataError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"the disk of {folder} is full; "
                            "free some space, or point VIT_DATA at another disk") from None
        raise DataError(f"cannot write to {folder} ({error}); "
                        "point VIT_DATA at a folder that can be written") from None


def fetch(source: str, target: Path) -> Path:
    """Download an http(s) address to `target`; a file address or path is taken where it lies.
    Returns the file's path.

    Raises DataError where it cannot be had whole.
    """
    if not source.startswith(("http://", "https://")):
        path = Path(urllib.request.url2pathname(urllib.parse.urlparse(source).path)
                    if source.startswith("file:") else source)
        if not path.is_file():
            raise DataError(f"{path}: no such file; check the path")
        return path
    try:
        # In pieces, as an archive may be larger than the memory.
        with requests.get(source, stream=True, timeout=20) as response, open(target, "wb") as file:
            if response.status_code != 200:
                raise DataError(f"{source} answers {response.status_code} ({response.reason}); "
                                "check the address")
            for chunk in response.iter_content(2**18):
                file.write(chunk)
    except requests.exceptions.ChunkedEncodingError:  # also for fewer bytes than were promised
        raise DataError(f"the download of {source} broke off; try again") from None
    except requests.RequestException as error:
        raise DataError(f"{source} cannot be reached ({type(error).__name__}); "
                        "check the network") from None
    return target


def _entries(archive: zipfile.ZipFile | tarfile.TarFile) -> Iterator[tuple[Any, str, int, bool]]:
    """(entry, its name, its size in bytes, whether it is more than a file or folder) of each."""
    if isinstance(archive, tarfile.TarFile):
        for member in archive:
            yield member, member.name, member.size, not (member.isfile() or member.isdir())
    else:
        for entry in archive.infolist():
            # Windows programs may write backslashes, which elsewhere are a part of a name.
            entry.filename = entry.filename.replace("\\", "/")
            is_link = stat.S_ISLNK(entry.external_attr >> 16)  # the upper half is a Unix file's mode
            yield entry, entry.filename, entry.file_size, is_link


def _extract(archive: zipfile.ZipFile | tarfile.TarFile, folder: Path, packed_size: int,
             source: str) -> None:
    """Unpack all entries but hidden ones; packed_size is that of the archive, in bytes.

    Raises DataError, before anything is written, where an entry would leave the folder, or all of
    them would fill the disk.
    """
    chosen, bytes_left = [], max(BOMB_BYTES, BOMB_RATIO * packed_size)
    for entry, name, size, is_link in _entries(archive):
        path = PureWindowsPath(name)  # knows both kinds of slash, and drives
        if path.anchor or ".." in path.parts or is_link:
            raise DataError(f"{source} is refused: its entry {name!r} leaves the folder; "
                            "get the archive from a place that you trust")
        # The size is the archive's own claim, but no more of an entry is unpacked than it claims.
        if is_visible(PurePosixPath(name)):
            chosen.append(entry)
            bytes_left -= size
        if bytes_left < 0:
            raise DataError(f"{source} is refused: it unpacks to more than "
                            f"{max(BOMB_BYTES, BOMB_RATIO * packed_size) / 2**30:,.1f} GiB; "
                            "get the archive from a place that you trust")
    if isinstance(archive, tarfile.TarFile):  # without the owners and permissions that it names
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
    archive.extractall(folder, chosen)


def _unpack(path: Path, folder: Path, source: str) -> Path:
    """Unpack a zip, or a tar in any compression, into `folder`; returns the folder in it that holds
    the data set.

    Raises DataError, which names `source`, for what is no sound and safe archive of a data set.
    """
    is_zip, is_tar = zipfile.is_zipfile(path), False
    with contextlib.suppress(EOFError, OSError, zlib.error, lzma.LZMAError):  # of a broken tar.gz
        is_tar = tarfile.is_tarfile(path)
    # A wrong address, or a network that wants a login first, answers with a web page.
    if not is_zip and not is_tar:
        with open(path, "rb") as file:
            kind = ("a web page" if file.read(256).lstrip().startswith(b"<")
                    else "no zip or tar archive")
        raise DataError(f"{source} gives {kind}, not a data set; "
                        "check the address, or get the archive by hand")
    folder.mkdir()
    try:
        with zipfile.ZipFile(path) if is_zip else tarfile.open(path) as archive:
            _extract(archive, folder, path.stat().st_size, source)
    except DataError:  # is a ValueError, but already says what is wrong
        raise
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError,
            RuntimeError, ValueError) as error:
        # RuntimeError: a password, an unknown method. ValueError: names that are no text,
        # impossible numbers.
        raise DataError(f"{source} is a broken archive ({reason_of(error)}); "
                        "get it again") from None
    except OSError as error:
        if error.errno is None:  # of gzip and bz2
            raise DataError(f"{source} is a broken archive ({reason_of(error)}); "
                            "get it again") from None
        # What is left is the disk's fault, for `writing_to` to explain.
        if error.errno not in (errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG):
            raise
        raise DataError(f"{source} can't be unpacked ({error.strerror}): two of its entries have "
                        "the same name, or one is too long; rename them") from None
    try:
        return find_layout(folder).folder
    except DataError as error:
        # The folder is a temporary one, whose path would tell a reader nothing.
        reason = str(error).replace(f"{folder}{os.sep}", "").replace(str(folder), "it")
        raise DataError(f"{source} holds no data set: {reason}") from None


def holds_files(folder: Path) -> bool:
    """False for a missing folder, and for the empty one that a failed download of another tool
    leaves behind."""
    return folder.is_dir() and any(folder.iterdir())


def _ending(source: str) -> str:
    """That of an archive's name: ".tar.gz" and the like, else ".zip"."""
    endings = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
    path = urllib.parse.urlparse(source).path.lower()
    return next((ending for ending in endings if path.endswith(ending)), ".zip")


def install(source: str, target: Path, keep_archive: bool = False) -> None:
    """Fetch the archive `source` and unpack it to the folder `target`.

    keep_archive: move a downloaded archive beside that folder.
    Raises DataError where the source cannot be had whole, or is no sound and safe data set.
    """
    parent = target.parent
    # A data set that is there is taken for whole, so it must never be there in part. All is done in
    # a temporary folder on the same disk; the last step is a rename, which happens at once or not
    # at all. An error removes that folder. A killed process leaves it, but its name is hidden, so
    # that nothing takes it for data.
    with (writing_to(parent),
          tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=parent) as temporary):
        archive = fetch(source, Path(temporary) / f"{target.name}{_ending(source)}")
        unpacked = _unpack(archive, Path(temporary) / "unpacked", source)
        if not holds_files(target):  # else another process was faster
            os.rename(unpacked, target)
        if keep_archive and archive.parent == Path(temporary):
            os.replace(archive, parent / archive.name)


def download_data(source: str | Path, destination: str, remove_source: bool = True) -> Path:
    """Unpack an archive (zip or tar) to data_folder()/DESTINATION, and return that folder. A data
    set that is there already is returned as it is.

    It holds train/CLASS/ and test/CLASS/, or another layout that `layouts.find_layout` knows, which
    is then printed. A folder around it all is left away.

    source: an http(s) or file address, or a path.
    remove_source: False keeps a downloaded archive as DESTINATION.zip (or .tar.gz, ...) beside that
        folder. A local file is never removed.
    Raises DataError where the source cannot be had whole, is not safe or no data set, and leaves
    nothing half done.
    """
    target = data_folder() / destination
    if holds_files(target):
        try:
            layout = find_layout(target)
        except DataError as error:
            raise DataError(f"{target} is no whole data set ({error}); "
                            "delete it, then try again") from None
        print(f"{target} exists, skipping download.")
    else:
        install(os.fspath(source), target, keep_archive=not remove_source)
        layout = find_layout(target)
    if layout.words:
        print(layout.words)
    return layout.folder
