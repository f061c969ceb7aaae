"""Build the documentation site from the stored notebooks, without executing anything.

python site/build.py [--output FOLDER]          default: site/dist

The pages are laid out in a temporary folder: the notebooks, each solution folded under its exercise,
texts of the repository with their links led to pages or to GitHub, and a page of the API for each
module. Then Sphinx renders them; a warning is an error.
"""
import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from sphinx.cmd.build import main as sphinx  # noqa: E402

from explorer import build as explorer  # noqa: E402
from notebooks.address import address  # noqa: E402

GITHUB = f"https://github.com/{address()}/blob/main"
# Texts of the repository -> the pages that they become.
TEXTS = {"benchmarks/README.md": "results.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md",
         "data/README.md": "data.md",
         **{f"site/pages/{name}.md": f"{name}.md"
            for name in ("scorecard", "training", "weights", "names", "glossary", "map")}}
MODULES = [
    "vit", "engine", "data_setup", "predictions", "plots", "utils", "config", "trainer", "recipe", "train",
    "weights.loading", "weights.saving",
    "weights.interpolation", "paper.finetune", "paper.inspection", "paper.masked", "paper.positions",
    "paper.probe", "export"]
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
# The beginning of an exercise and of its solution: "### 1. Title", or "**1. Title.** Text".
EXERCISE = re.compile(r"^(?:#+ (?P<heading>\d+)\. .*\n?|\*\*(?P<bold>\d+)\.)", re.MULTILINE)
LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s]+)\)")


def lead_links(text: str, file: Path, page: Path, pages: Path) -> str:
    """The text of a file with its relative links led to the pages of the site, else to GitHub.

    file: where the text stands in the repository. page: where it will stand in `pages`. Pictures are copied there.
    """
    def led(match: re.Match) -> str:
        label, target = match.groups()
        path, _, anchor = target.partition("#")
        if not path or ":" in path:
            return match.group()
        inside = os.path.relpath((file.parent / path).resolve(), ROOT)
        here = page.parent
        if label.startswith("!"):
            (pages / "images").mkdir(exist_ok=True)
            shutil.copy(ROOT / inside, pages / "images")
            return f"{label}({os.path.relpath(pages / 'images' / Path(inside).name, here)})"
        if inside in TEXTS or re.fullmatch(r"notebooks/(solutions/)?\d\d_\w+\.ipynb", inside):
            target = os.path.relpath(pages / TEXTS.get(inside, inside), here)
            return f"{label}({target}{'#' + anchor if anchor else ''})"
        return f"{label}({GITHUB}/{inside}{'#' + anchor if anchor else ''})"

    return LINK.sub(led, text)


def solutions_of(name: str, pages: Path) -> dict[str, str]:
    """The solved exercises of a notebook: number -> Markdown, with code and printed results."""
    file = ROOT / "notebooks" / "solutions" / f"{name}.ipynb"
    solved: dict[str, str] = {}
    number = None
    *cells, last = json.loads(file.read_text())["cells"]
    leads_back = "".join(last["source"]).startswith("Back to")
    for cell in cells if leads_back else [*cells, last]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            source = lead_links(source, file, pages / "notebooks" / f"{name}.ipynb", pages)
        if cell["cell_type"] == "markdown" and (begins := EXERCISE.match(source)):
            number = begins["heading"] or begins["bold"]
            source = source[begins.end():] if begins["heading"] else source
        if number is None:
            continue
        if cell["cell_type"] == "code":
            printed = "".join("".join(output.get("text", "")) for output in cell["outputs"])
            source = f"```python\n{source}\n```" + (f"\n\n```text\n{printed.rstrip()}\n```" if printed else "")
        solved[number] = solved.get(number, "") + source + "\n\n"
    return solved


def alt_text(cell: dict) -> str:
    """The text that plots.show stored with the figure of a code cell; empty without a figure."""
    return " ".join(output["metadata"]["image/png"]["alt"] for output in cell["outputs"]
                    if "alt" in output.get("metadata", {}).get("image/png", {}))


def lay_out_notebook(name: str, pages: Path) -> None:
    """Write a notebook as a page: buttons in place of the badge, solutions folded under their exercises."""
    file = ROOT / "notebooks" / f"{name}.ipynb"
    notebook, solved = json.loads(file.read_text()), solutions_of(name, pages) if "/" not in name else {}
    page = pages / "notebooks" / f"{name}.ipynb"
    cells: list[dict] = []
    exercises, number = False, None  # whether the exercises have begun, and the one that is open
    up = "../" * name.count("/")

    def folded() -> list[dict]:
        text = solved.pop(number, None)
        return [] if text is None else [{
            "cell_type": "markdown", "id": f"solution-{number}", "metadata": {},
            "source": f"::::::{{dropdown}} Solution\n{text}::::::"}]

    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            source = "".join(cell["source"])
            exercises = exercises or bool(re.search("^#+ .*exercises", source, re.MULTILINE | re.IGNORECASE))
            if exercises and (begins := EXERCISE.search(source)):
                cells += folded()
                number = begins["heading"] or begins["bold"]
            if badge := re.search(r"\[!\[Open In Colab\]\([^)]+\)\]\(([^)]+)\)", source):
                links = f"[Open in Colab]({badge[1]}) {{download}}`Download <{up}../originals/{name}.ipynb>`"
                source = source.replace(badge[0], f":::{{container}} notebook-links\n{links}\n:::\n")
            cell["source"] = lead_links(source, file, page, pages)
        elif alt := alt_text(cell):
            cell["metadata"]["mystnb"] = {"image": {"alt": alt}}
        cells.append(cell)
    if number in solved:  # before the last cell, which leads on to the next notebook
        cells[-1:-1] = folded()
    notebook["cells"] = cells
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(json.dumps(notebook))
    original = pages / "originals" / f"{name}.ipynb"
    original.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, original)


def toctree(caption: str, entries: list[str], options: str = "") -> str:
    return "\n".join(["```{toctree}", f":caption: {caption}", ":maxdepth: 1", options, "", *entries, "```", ""])


def lay_out(pages: Path) -> None:
    """Write all pages and the explorer."""
    shutil.copy(HERE / "conf.py", pages)
    shutil.copytree(HERE / "static", pages / "static")
    for name in NOTEBOOKS:
        lay_out_notebook(name, pages)
        lay_out_notebook(f"solutions/{name}", pages)
    for text, name in TEXTS.items():
        file = ROOT / text
        (pages / name).write_text(lead_links(file.read_text(), file, pages / name, pages))
    (pages / "api").mkdir()
    for module in MODULES:
        title = f"going_modular.{module}"
        (pages / "api" / f"{module}.rst").write_text(
            f"{title}\n{'=' * len(title)}\n\n.. automodule:: {title}\n   :members:\n")
    (pages / "solutions.md").write_text(
        "# Solutions\nEach is also folded under its exercise.\n\n"
        + toctree("", [f"notebooks/solutions/{name}" for name in NOTEBOOKS]).replace(":caption: \n", ""))
    (pages / "api.md").write_text(
        "# API\nThe finished code, module by module. The notebooks build `vit`, `engine` and the step of `trainer`.\n\n"
        + toctree("", [f"api/{module}" for module in MODULES]).replace(":caption: \n", ""))
    index = (HERE / "index.md").read_text()
    index += toctree("The series", [f"notebooks/{name}" for name in NOTEBOOKS], ":hidden:")
    beside = ["scorecard", "solutions", "results", "training", "weights", "Data <data>", "names", "glossary", "map",
              "api", "contributing", "changelog"]
    index += toctree("Beside it", beside, ":hidden:")
    (pages / "index.md").write_text(index)
    (pages / "extra").mkdir()
    explorer.main(["--output", str(pages / "extra" / "explorer.html"), "--notebooks", "notebooks/{name}.html"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE / "dist")
    args = parser.parse_args()
    # What Sphinx keeps between builds of the same folder is no part of the site.
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        pages = Path(folder)
        lay_out(pages)
        status = sphinx(["-q", "-W", "--keep-going", "-b", "html", "-d", cache, str(pages), str(args.output)])
    if not status:
        print(f"the site: {args.output / 'index.html'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
