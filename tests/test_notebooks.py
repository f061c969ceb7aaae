"""The notebooks: their code is the package's, their outputs are clean, their exercises have solutions."""
import ast
import itertools
import json
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LESSONS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("[0-9]*.ipynb"))
TAUGHT = ["vit.py", "engine.py"]  # the files of the package that the notebooks build, piece by piece
BOOTSTRAP = """try:
    import going_modular
except ImportError:  # in Colab
    %pip install -q "git+https://github.com/{}\""""

every_lesson = pytest.mark.parametrize("file", LESSONS, ids=lambda file: file.stem)
every_notebook = pytest.mark.parametrize(
    "file", LESSONS + SOLUTIONS, ids=lambda file: f"{file.parent.name}/{file.stem}")


def cells(file: Path, kind: str | None = None) -> list[dict]:
    return [cell | {"source": "".join(cell["source"])} for cell in json.loads(file.read_text())["cells"]
            if kind in (None, cell["cell_type"])]


def outputs(file: Path) -> list[dict]:
    return [output for cell in cells(file, "code") for output in cell["outputs"]]


def texts(file: Path) -> str:
    """Everything that the outputs say."""
    parts = []
    for output in outputs(file):
        parts += ["".join(output.get("text", "")), *("".join(value) for kind, value in output.get("data", {}).items()
                                                     if kind.startswith("text/"))]
    return "\n".join(parts)


# ---------------------------------------------------------------------------------------------------------------------
# One source of truth


def without_docstrings(tree: ast.AST) -> str:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree, indent=1)


def pieces_of(file: str) -> dict[str, str]:
    """The syntax trees of what a file of the package defines, by name."""
    pieces = {}
    for node in ast.parse((ROOT / "going_modular" / file).read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            pieces[node.name] = without_docstrings(node)
        elif isinstance(node, ast.Assign):
            pieces[node.targets[0].id] = without_docstrings(node)
    return pieces


def marked_cells() -> list[tuple[Path, str, str, str]]:
    """(notebook, file, name, source) of each cell that says it holds a piece of the package."""
    found = []
    for notebook in LESSONS:
        for cell in cells(notebook, "code"):
            if mark := re.match(r"# going_modular/([\w/]+\.py): (\w+)\n", cell["source"]):
                found.append((notebook, mark[1], mark[2], cell["source"]))
    return found


@pytest.mark.parametrize("notebook, file, name, source", marked_cells(), ids=lambda value: getattr(value, "stem", None))
def test_a_marked_cell_is_the_packages_code(notebook, file, name, source):
    (node,) = ast.parse(source).body
    assert without_docstrings(node) == pieces_of(file)[name], f"{notebook.name} and going_modular/{file} differ"


@pytest.mark.parametrize("file", TAUGHT)
def test_each_piece_is_taught_in_one_notebook(file):
    taught = [name for _, of, name, _ in marked_cells() if of == file]
    assert sorted(taught) == sorted(pieces_of(file))


def test_the_comparison_sees_the_smallest_change():
    source = (ROOT / "going_modular" / "vit.py").read_text()
    changed = source.replace("-2 * std", "-3 * std")
    trees = [without_docstrings(ast.parse(text)) for text in (source, changed, source.replace("Equation 1", "Eq. 1"))]
    assert source != changed and trees[0] != trees[1] and trees[0] == trees[2]


# ---------------------------------------------------------------------------------------------------------------------
# Clean outputs


@every_notebook
def test_executed_from_top_to_bottom_without_errors(file):
    code = cells(file, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    bad = [output for output in outputs(file) if {"error", "stderr"} & {output["output_type"], output.get("name")}]
    assert not bad, bad


@every_notebook
def test_no_cell_ends_in_a_semicolon(file):  # nbval runs cells without history, and there IPython does not honour it
    assert not [cell["source"] for cell in cells(file, "code") if cell["source"].rstrip().endswith(";")]


@every_notebook
def test_nothing_of_one_machine_or_of_the_network(file):
    said = texts(file)
    for cell in cells(file):
        said += cell["source"]
    assert not re.search(r"(?<![\w.])/(home|root|tmp|work|Users|usr|content)/|[A-Z]:\\\\|0x[0-9a-f]{6,}", said)
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]*)\)|<img", said)
    assert all("colab-badge.svg" in picture for picture in pictures)
    assert file.stat().st_size < 1_000_000
    kinds = set(itertools.chain(*(output.get("data", {}) for output in outputs(file))))
    assert kinds <= {"image/png", "text/plain", "text/html", "text/markdown"}


@every_notebook
def test_outputs_that_are_not_compared_end_in_an_assert(file):
    for cell in cells(file, "code"):
        if "nbval-ignore-output" in cell["metadata"].get("tags", []):
            assert isinstance(ast.parse(cell["source"]).body[-1], ast.Assert), cell["source"]


# ---------------------------------------------------------------------------------------------------------------------
# The same frame around each


def address_tools() -> dict:
    return runpy.run_path(str(ROOT / "notebooks" / "address.py"))


@every_notebook
def test_title_badge_and_bootstrap(file):
    title, bootstrap, *_ = cells(file)
    assert re.match(rf"# {file.stem[:2]} · \w+", title["source"]) and "colab-badge.svg" in title["source"]
    assert f"/blob/main/{file.relative_to(ROOT)}" in title["source"]
    assert bootstrap["source"] == BOOTSTRAP.format(address_tools()["address"]())


def test_the_address_stands_in_one_place():
    tools = address_tools()
    for file in tools["files"]():
        assert tools["with_address"](file.read_text()) == file.read_text(), f"run python notebooks/address.py: {file}"
    assert tools["with_address"]("git+https://github.com/a/b").endswith(tools["address"]())


@every_lesson
def test_recap_exercises_and_the_way_on(file):
    said = [cell["source"] for cell in cells(file, "markdown")]
    recap = next(text for text in said if text.startswith("## Recap"))
    assert len(re.findall(r"^- ", recap, flags=re.MULTILINE)) == 3
    links = re.findall(r"\]\(([^)#]+\.ipynb)\)", said[-1])
    assert f"solutions/{file.name}" in links
    after = [other for other in LESSONS if other > file]
    assert not after or after[0].name in links
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", "\n".join(said)):
        assert (file.parent / link).exists(), link


@every_lesson
def test_exercises_wait_for_the_reader_and_have_solutions(file):
    checks = [cell for cell in cells(file, "code") if "exercises.check" in cell["source"]]
    assert len(checks) >= 3
    for cell in checks:
        assert "".join(cell["outputs"][0]["text"]).startswith("not yet"), cell["source"]
    solved = [cell for cell in cells(ROOT / "notebooks" / "solutions" / file.name, "code")
              if "exercises.check" in cell["source"]]
    names = [[re.findall(r"exercises\.check_\w+", cell["source"]) for cell in part] for part in (checks, solved)]
    assert names[0] == names[1]
    for cell in solved:
        assert set("".join(cell["outputs"][0]["text"]).split()) == {"correct"}, cell["source"]


@every_lesson
def test_at_least_two_pictures(file):
    assert sum("image/png" in output.get("data", {}) for output in outputs(file)) >= 2
