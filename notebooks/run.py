"""Execute notebooks from top to bottom and store them as the tests want them: python -m notebooks.run [NAME ...]

NAME is a notebook's, such as 05_mlp_block or solutions/05_mlp_block, or a pattern, such as "0[2-7]*".
Without a name all are executed, solutions included. What changed in the text of the outputs is shown.
A notebook with a cell that fails, or that writes to stderr, keeps its stored file.
"""
import argparse
import base64
import difflib
import io
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from PIL import Image

FOLDER = Path(__file__).resolve().parent

# The same on every machine: a reader's kernel has another version, and another name for its environment.
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
MOST_LINES = 12  # of the difference of a cell's outputs that are shown


def find(names: list[str]) -> list[Path]:
    """The notebooks of these names or patterns, in the order of the series; of none, all.

    Raises a FileNotFoundError for a name that no notebook has.
    """
    found = set()
    for name in names or ["[0-9]*", "solutions/[0-9]*"]:
        files = set(FOLDER.glob(f"{name.removesuffix('.ipynb')}.ipynb"))
        if not files:
            raise FileNotFoundError(f"no notebook is called {name!r} in {FOLDER}")
        found |= files
    return sorted(found)


def execute(notebook: NotebookNode, folder: Path) -> None:
    """Fill in the outputs and execution counts, in one fresh kernel whose working folder is this one.

    Raises a CellExecutionError, whose text is the traceback, for a cell that fails.
    """
    # Outputs must not depend on a network, or on data that lies on this machine.
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("VIT_DATA", "VIT_MIRROR")}
    client = NotebookClient(
        notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(folder)}},
        record_timing=False,  # execution times would change with each run
        coalesce_streams=True)  # else the pieces in which print arrives would be stored as they come
    client.execute(env=environment | {"VIT_OFFLINE": "1"})


def clean(notebook: NotebookNode, stored: NotebookNode) -> None:
    """Remove what tells of this machine, and give each picture that has not changed its stored bytes.

    Raises a ValueError for a cell that wrote to stderr: a warning is to be mended, not hidden.
    """
    notebook.metadata = nbformat.from_dict(METADATA)
    before = {cell.id: pictures(cell) for cell in stored.cells}
    for number, cell in enumerate(notebook.cells):
        # Tags tell the tests what to compare; the rest belongs to the editor that was used.
        cell.metadata = NotebookNode((key, value) for key, value in cell.metadata.items() if key == "tags")
        errors = [output.text for output in outputs(cell) if output.get("name") == "stderr"]
        if errors:
            raise ValueError(f"cell {number} writes to stderr:\n{''.join(errors)}")
        old = iter(before.get(cell.id, []))
        for output in outputs(cell):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = smallest(output.data["image/png"], next(old, None))


def outputs(cell: NotebookNode) -> list[NotebookNode]:
    return cell.get("outputs", [])


def pictures(cell: NotebookNode) -> list[str]:
    """The PNGs among a cell's outputs, in base64."""
    return [output.data["image/png"] for output in outputs(cell) if "image/png" in output.get("data", {})]


def smallest(png: str, stored: str | None) -> str:
    """The picture in the fewest bytes without loss, all in base64: the stored one, where it has the same pixels."""
    image = decode(png)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    optimised = base64.b64encode(buffer.getvalue()).decode()
    # Another version of zlib packs the same pixels into other bytes: no reason for git to show a change.
    if stored is not None and same_pixels(image, decode(stored)) and len(stored) <= len(optimised):
        return stored
    return optimised


def decode(png: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(png)))


def same_pixels(a: Image.Image, b: Image.Image) -> bool:
    return (a.mode, a.size) == (b.mode, b.size) and a.tobytes() == b.tobytes()


def text_of(cell: NotebookNode) -> list[str]:
    """The lines of text in a cell's outputs."""
    lines = []
    for output in outputs(cell):
        data = {"stdout": output.get("text", ""), **output.get("data", {})}
        for kind in ("stdout", "text/plain", "text/markdown", "text/html"):
            lines += data.get(kind, "").splitlines()
    return lines


def changes(notebook: NotebookNode, stored: NotebookNode) -> list[str]:
    """What the outputs say now and did not say before, cell by cell, as lines of a short diff."""
    before = {cell.id: cell for cell in stored.cells}
    differences = []
    for number, cell in enumerate(notebook.cells):
        old = before.get(cell.id, NotebookNode(outputs=[]))
        lines = list(difflib.unified_diff(text_of(old), text_of(cell), n=0, lineterm=""))[2:]
        lines = [line for line in lines if not line.startswith("@@")]
        if len(lines) > MOST_LINES:
            lines = [*lines[:MOST_LINES], f"... {len(lines) - MOST_LINES} lines more"]
        new, shown = pictures(cell), pictures(old)
        same = [same_pixels(decode(a), decode(b)) for a, b in zip(new, shown)]
        if len(new) != len(shown) or not all(same):
            lines.append(f"pictures: {len(shown)} before, {len(new)} now, {sum(same)} of them unchanged")
        if lines:
            differences += [f"  cell {number}", *(f"    {line}" for line in lines)]
    return differences


def run(file: Path) -> list[str]:
    """Execute one notebook and store it; returns what its outputs say now and did not say before."""
    stored, notebook = (nbformat.read(file, as_version=4) for _ in range(2))
    execute(notebook, file.parent)
    clean(notebook, stored)
    differences = changes(notebook, stored)
    # Sorted keys, an indent of 1, characters as they are: nbformat's own way of writing.
    file.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8", newline="\n")
    return differences


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", metavar="NAME", nargs="*", help="a notebook or a pattern; default: all")
    try:
        files = find(parser.parse_args(arguments).names)
    except FileNotFoundError as error:
        parser.error(str(error))
    failed = []
    for file in files:
        name = file.relative_to(FOLDER)
        print(f"{name}: ", end="", flush=True)
        try:
            differences = run(file)
        except DeadKernelError as error:  # at Ctrl-C and SIGTERM, nbclient ends the kernel and tells no more than this
            print(f"not stored, the file is as it was, and no other is executed\n{error}")
            return 1
        except (CellExecutionError, ValueError) as error:
            print(f"not stored, the file is as it was\n{error}")
            failed.append(name)
        else:
            print("stored, and its outputs " + ("differ:" if differences else "say the same"))
            print("".join(f"{line}\n" for line in differences), end="")
    if failed:
        print(f"Mend first: {', '.join(map(str, failed))}")
        return 1
    print("Next: read each notebook whose outputs differ from top to bottom, then run the tests (make test).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
