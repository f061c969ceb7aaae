"""The notebooks: their code is the package's, their outputs are clean, their exercises have solutions."""
import ast
import base64
import copy
import itertools
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from notebooks import address, run

ROOT = Path(__file__).parent.parent
LESSONS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("[0-9]*.ipynb"))
TAUGHT = ["vit.py", "engine.py"]  # the files of the package that the notebooks build, piece by piece
BOOTSTRAP = """try:
    import going_modular
except ImportError:  # in Colab
    %pip install -q "git+https://github.com/{}"

# Figures are shown in the notebook, whatever MPLBACKEND says.
%matplotlib inline"""

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


def methods_of(file: str) -> dict[str, str]:
    """The syntax trees of the methods that a file of the package defines, as CLASS.METHOD."""
    classes = [node for node in ast.parse((ROOT / "going_modular" / file).read_text()).body
               if isinstance(node, ast.ClassDef)]
    return {f"{cls.name}.{node.name}": without_docstrings(node) for cls in classes for node in cls.body
            if isinstance(node, ast.FunctionDef)}


def marked_cells() -> list[tuple[Path, str, str, str]]:
    """(notebook, file, name, source) of each cell that says it holds a piece of the package."""
    found = []
    for notebook in LESSONS:
        for cell in cells(notebook, "code"):
            if mark := re.match(r"# going_modular/([\w/]+\.py): ([\w.]+)\n", cell["source"]):
                found.append((notebook, mark[1], mark[2], cell["source"]))
    return found


@pytest.mark.parametrize("notebook, file, name, source", marked_cells(), ids=lambda value: getattr(value, "stem", None))
def test_a_marked_cell_is_the_packages_code(notebook, file, name, source):
    (node,) = ast.parse(source).body
    pieces = pieces_of(file) | methods_of(file)
    assert without_docstrings(node) == pieces[name], f"{notebook.name} and going_modular/{file} differ"


@pytest.mark.parametrize("file", TAUGHT)
def test_each_piece_is_taught_in_one_notebook(file):
    taught = [name for _, of, name, _ in marked_cells() if of == file]
    assert sorted(taught) == sorted(pieces_of(file))


def test_the_step_of_a_long_run_is_taught():
    assert [notebook.stem for notebook, _, name, _ in marked_cells() if name == "Trainer._step"] == [
        "09_train_on_cifar100"]


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
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]*)\)|<img(?![^>]* src=.data:)", said)
    for picture in pictures:  # the badge, or a picture of the repository
        inside = (file.parent / picture).resolve()
        assert "colab-badge.svg" in picture or inside.is_file() and inside.parent == ROOT / "images", picture
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


@every_notebook
def test_title_badge_and_bootstrap(file):
    title, bootstrap, *_ = cells(file)
    assert re.match(rf"# {file.stem[:2]} · \w+", title["source"]) and "colab-badge.svg" in title["source"]
    assert f"/blob/main/{file.relative_to(ROOT)}" in title["source"]
    assert bootstrap["source"] == BOOTSTRAP.format(address.address())


def test_the_address_stands_in_one_place():
    for file in address.files():
        assert address.with_address(file.read_text()) == file.read_text(), f"run python -m notebooks.address: {file}"
    assert address.with_address("git+https://github.com/a/b").endswith(address.address())


def test_opened_from_a_clone_the_first_cell_finds_the_package_and_asks_for_figures(monkeypatch):
    """In the environment that the Makefile sets up, in a kernel as JupyterLab starts it, up to a notebook's first
    picture; MPLBACKEND is what many CI services set."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    stored = [cell for cell in nbformat.read(LESSONS[6], as_version=4).cells if cell.cell_type == "code"]
    until = next(i for i, cell in enumerate(stored) if run.pictures(cell))
    notebook = nbformat.v4.new_notebook(cells=copy.deepcopy(stored[: until + 1]))
    notebook.cells.append(nbformat.v4.new_code_cell("'site-packages' in going_modular.__file__"))
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": LESSONS[6].parent}}).execute()
    bootstrap, *_, drawing, copied = (cell.outputs for cell in notebook.cells)
    assert bootstrap == []  # pip would print a line
    assert [set(output.data) for output in drawing] == [{"text/plain", "image/png"}]
    assert copied[0].data["text/plain"] == "False", "install the package in place: pip install -e ."


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


@every_notebook
def test_each_picture_has_a_text_for_those_who_hear_the_page(file):
    for output in outputs(file):
        if "image/png" in output.get("data", {}):
            alt = output["metadata"].get("image/png", {}).get("alt", "")
            assert len(alt.split()) >= 8 and "".join(output["data"]["text/plain"]) == alt, f"plots.show: {alt!r}"
    pictures = re.findall(r"!\[([^\]]*)\]\(", "".join(cell["source"] for cell in cells(file, "markdown")))
    assert all(pictures), "a picture without a text"


@every_lesson
def test_what_cells_find_is_shown(file):
    code = cells(file, "code")
    silent = [cell["source"] for cell in code if not cell["outputs"]]
    assert len(silent) <= len(code) / 5, f"{len(silent)} of {len(code)} cells leave nothing on the page"


@every_lesson
def test_the_reader_is_asked_before_the_answer_is_shown(file):
    asked = [cell["source"] for cell in cells(file, "markdown") if "**Predict first" in cell["source"]]
    assert len(asked) >= 3 and all("<details><summary>" in source for source in asked)


# ---------------------------------------------------------------------------------------------------------------------
# The command that executes and stores them


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A function that writes a notebook of these cells into a folder that stands for notebooks/."""
    monkeypatch.setattr(run, "FOLDER", tmp_path)

    def write(*sources: str) -> Path:
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source, id=f"cell{i}") for i, source in enumerate(sources)],
            metadata={"kernelspec": {"display_name": "my env", "language": "python", "name": "mine"}})
        notebook.cells[0].metadata = {"tags": ["nbval-skip"], "ExecuteTime": {"start_time": "now"}}
        nbformat.write(notebook, tmp_path / "00_tiny.ipynb")
        return tmp_path / "00_tiny.ipynb"

    return write


def test_a_notebook_is_stored_as_the_tests_want_it(tiny, capfd, monkeypatch):
    monkeypatch.setenv("VIT_DATA", "elsewhere")
    file = tiny("import os\nprint('ä'); print(os.environ['VIT_OFFLINE'], 'VIT_DATA' in os.environ)",
                "from PIL import Image\nImage.new('RGB', (300, 300), 'red')", "1 + 1")
    assert run.main(["00_tiny"]) == 0
    said = capfd.readouterr().out
    assert "+ä" in said and "+1 False" in said and "pictures: 0 before, 1 now" in said and "Next:" in said
    text = file.read_text(encoding="utf-8")
    stored = json.loads(text)
    assert text == json.dumps(stored, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    assert stored["metadata"] == run.METADATA
    assert [cell["execution_count"] for cell in stored["cells"]] == [1, 2, 3]
    assert [cell["metadata"] for cell in stored["cells"]] == [{"tags": ["nbval-skip"]}, {}, {}]
    assert stored["cells"][0]["outputs"] == [{"name": "stdout", "output_type": "stream", "text": ["ä\n", "1 False\n"]}]
    assert run.main(["00_tiny"]) == 0 and "say the same" in capfd.readouterr().out
    assert file.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("source, reason", [("1 / 0", "ZeroDivisionError"),
                                            ("import warnings; warnings.warn('look out')", "look out")])
def test_what_fails_or_warns_is_not_stored(tiny, capfd, source, reason):
    file = tiny("print('fine')", source)
    before = file.read_bytes()
    assert run.main(["00_tiny.ipynb"]) == 1
    said = capfd.readouterr().out
    assert "not stored" in said and reason in said and "Next:" not in said
    assert file.read_bytes() == before


def test_a_picture_is_packed_without_loss_and_keeps_the_bytes_that_are_stored(tmp_path):
    def packed(pixels: np.ndarray, level: int) -> str:
        Image.fromarray(pixels).save(tmp_path / "picture.png", compress_level=level)
        return base64.b64encode((tmp_path / "picture.png").read_bytes()).decode()

    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    loose, tight = packed(pixels, 0), packed(pixels, 9)
    assert len(run.smallest(loose, None)) < len(loose)
    assert np.array_equal(np.asarray(run.decode(run.smallest(loose, None))), pixels)
    assert len(run.smallest(loose, loose)) < len(loose)
    assert run.smallest(loose, tight) == tight
    pixels[5, 5] = 1
    assert run.smallest(loose, packed(pixels, 9)) != packed(pixels, 9)


def test_notebooks_are_found_by_name_and_pattern():
    assert run.find([]) == LESSONS + SOLUTIONS
    assert run.find(["solutions/05_mlp_block", "05_*"]) == [LESSONS[5], SOLUTIONS[5]]
    with pytest.raises(FileNotFoundError, match="99_none"):
        run.find(["99_none"])
    with pytest.raises(SystemExit):
        run.main(["99_none"])
