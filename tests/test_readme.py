"""What README and its neighbours promise: commands, options, files, script and figures."""
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from benchmarks import scorecard
from benchmarks.common import log
from going_modular import config, data_setup, train, vit
from going_modular.experiments import MEASURED

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BENCHMARKS = (ROOT / "benchmarks" / "README.md").read_text()
PAGES = {file.stem: file.read_text() for file in (ROOT / "site" / "pages").glob("*.md")}
# What Colab brings along: the newest list of its GPU image, of June 2026 (github.com/googlecolab/backend-info, commit
# 03a8903, pip-freeze.gpu.txt), and the oldest image that can still be chosen (the README there).
COLAB = {
    "2026.06": {"torch": "2.11.0", "torchvision": "0.26.0", "numpy": "2.0.2", "pillow": "11.3.0",
                "matplotlib": "3.10.0", "requests": "2.32.4", "tqdm": "4.67.3"},
    "2025.07": {"torch": "2.6.0", "numpy": "2.0.2"},
}
BLOCKS = re.findall(r"```(python)?\n(.*?)```", README + "".join(PAGES.values()), flags=re.DOTALL)


def commands_of_make(*targets: str) -> list[str]:
    """What make runs for these targets from an empty folder, as one would type it in the environment."""
    # Without what a make that runs the tests hands down to this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PYTHON"))}
    result = subprocess.run(["make", "--dry-run", "--always-make", *targets], cwd=ROOT, env=environment,
                            check=True, capture_output=True, text=True)
    lines = re.sub(r"\s*\\\n\s*", " ", result.stdout).split("\n")  # a line may go on after a backslash
    for left_out in (".venv/bin/", " --quiet", " --disable-pip-version-check"):
        lines = [line.replace(left_out, "") for line in lines]
    return lines


def test_its_make_targets_exist():
    targets = set(re.findall(r"^make (\w+)$", README, flags=re.MULTILINE))
    assert targets == {"train", "lab", "test"}


def test_the_commands_without_make_are_those_of_make():
    by_hand = [block for _, block in BLOCKS if "venv" in block or "nbval" in block]
    typed = [line for line in "\n".join(by_hand).split("\n") if line and "activate" not in line]
    made = [line for line in commands_of_make("train", "lab", "test")
            if line and not line.startswith(("touch", "python3 -c"))]
    # make prints its commands in the order in which they are needed, README in the order in which they are told.
    assert sorted(typed) == sorted(made)


def test_ci_calls_the_test_command():
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("\nmake test")
    assert "bash .ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()


def test_it_is_short():
    prose = re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->|```.*?```", "", README, flags=re.DOTALL)
    assert len(prose.split()) < 600


def test_its_options_exist():
    known = {config.flag(name)[2:] for name in config.OPTIONS} | {"help"}
    known |= {"nbval", "nbval-current-env", "dist", "nproc_per_node"}  # pytest's and torchrun's
    for script in (ROOT / "going_modular" / "predictions.py", *(ROOT / "benchmarks").glob("*.py")):
        known |= set(re.findall(r'add_argument\("--([\w-]+)"', script.read_text()))
    mentioned = set(re.findall(r"(?<![\w-])--(\w[\w-]*)", README + BENCHMARKS + "".join(PAGES.values())))
    assert {"data", "output", "resume"} <= mentioned <= known, mentioned - known


def anchors(text: str) -> set[str]:
    """What a link can name in a Markdown text: its headings, as GitHub spells them."""
    headings = re.findall(r"^#+ (.*)", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "file", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md", "data/README.md",
             *(f"site/pages/{name}.md" for name in PAGES)])
def test_links_lead_to_files_and_headings(file):
    for link in re.findall(r"\]\(((?!http)[^)]+)\)", (ROOT / file).read_text()):
        path, _, anchor = link.partition("#")
        target = (ROOT / file).parent / path if path else ROOT / file
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


def test_the_glossary_is_in_order_and_has_what_the_notebooks_link_to():
    entries = re.findall(r"^## (.*)\n(.*)", PAGES["glossary"], flags=re.MULTILINE)
    terms = [term.lower() for term, _ in entries]
    assert terms == sorted(terms) and all("](" in text for _, text in entries)
    notebooks = "".join(file.read_text() for file in (ROOT / "notebooks").glob("*.ipynb"))
    linked = set(re.findall(r"glossary\.md#([\w-]+)", notebooks))
    assert {"skip-connection", "inductive-bias"} <= linked <= anchors(PAGES["glossary"])


def test_each_module_has_its_row():
    rows = set(re.findall(r"^\| \[[\w.]+\]\(\.\./\.\./going_modular/([\w.]+)\)", PAGES["map"], flags=re.MULTILINE))
    modules = {path.name for path in (ROOT / "going_modular").iterdir() if not path.name.startswith("__")}
    assert modules <= rows


def test_its_names_exist():
    row = re.search(r"`--data` also takes a name: (.*)\[data", PAGES["training"]).group(1)
    names = re.findall(r"`(\w+)`", row)
    assert set(names) == set(data_setup.NAMES) - {"auto"}
    sizes = re.search(r"; (.*) come with any patch and image size", PAGES["map"]).group(1)
    assert set(re.findall(r"\w+", sizes)) - {"and"} == set(vit.VARIANTS) - {"Mini"}


def test_its_files_of_a_run_are_those_written(colours, tmp_path):
    sentence = re.search(r"A run folder holds (.*?)\. Ctrl-C", PAGES["training"]).group(1)
    promised = set(re.findall(r"`([\w.]+)`", sentence))
    train.main(["--data", str(colours), "--output", str(tmp_path / "run"), "--epochs", "1", "--device", "cpu"])
    written = {path.name for path in (tmp_path / "run").iterdir()} - {".lock"}
    assert promised == written


def test_its_script_runs(colours, tmp_path):
    script = next(block for kind, block in BLOCKS if kind and "engine.train(" in block)
    (tmp_path / "my_photos").symlink_to(colours)
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)},
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "epoch 10/10" in result.stdout and (tmp_path / "models" / "my_vit.pt").is_file()


def test_importing_the_package_needs_no_torch():
    code = "import sys, going_modular; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_its_figures_are_those_of_the_logs():
    from benchmarks import readme

    for file, tables in readme.sections().items():
        for name, table in tables.items():
            assert f"<!-- {name} -->\n{table}\n<!-- /{name} -->" in file.read_text(), "run: python -m benchmarks.readme"


def test_the_scorecard_has_each_equation_table_and_figure_once():
    rows = re.findall(r"^\| (Equation \d+|Table \d+|Figure \d+) \|.*\| \*\*(.*?)\*\* \|", PAGES["scorecard"],
                      flags=re.MULTILINE)
    assert [part for part, _ in rows] == scorecard.NUMBERED
    assert {how for _, how in rows} == set(scorecard.HOW)


@pytest.mark.parametrize("row", scorecard.rows(), ids=lambda row: row.part)
def test_the_numbers_of_the_scorecard_stand_in_its_notebooks(row):
    assert row.how == "not" or row.where, "where it is shown"
    cells = [cell for stem in row.where
             for cell in json.loads((ROOT / "notebooks" / f"{stem}.ipynb").read_text())["cells"]
             if cell["cell_type"] == "code"]
    said = "\n".join("".join(part) for cell in cells
                     for part in (cell["source"], *(output.get("text", "") for output in cell["outputs"])))
    # 1_000 in code and 1,000 in a text are one number.
    numbers = set(re.findall(r"\d[\d.e-]*", re.sub(r"(?<=\d)[_,](?=\d{3})", "", said)))
    for quoted in row.quoted:
        assert quoted in row.ours and quoted.replace(",", "") in numbers, quoted


def test_what_the_scorecard_says_beside_its_numbers_is_what_the_logs_show():
    accuracy = {name: {kind: row["test_accuracy"]["mean"] for kind, row in results.items()}
                for name, results in log("table7")["results"].items()}
    # Adam is ahead in the paper's pre-training.
    assert "in pre-training this is not the paper's order" in scorecard.table_7().ours
    assert accuracy["pre-training"]["AdamW"] < accuracy["pre-training"]["SGD"]
    for measure in ("probe", "fine_tuned"):  # Figures 3 and 4: the lines do not cross
        for samples in (3_500, 35_000):
            vit_line, cnn_line = (scorecard.means(measure, kind, samples) for kind in ("ViT", "CNN"))
            assert all(cnn_line[pictures] > accuracy for pictures, accuracy in vit_line.items())
    figure_8 = next(row for row in scorecard.figures() if row.part == "Figure 8")
    assert "not the paper's order" in figure_8.ours  # there depth and smaller patches pay most, width least
    base, deep, wide, coarse = map(float, re.findall(r"0\.\d+", figure_8.ours)[:4])
    assert wide > base > deep and coarse > base


def test_the_accuracies_that_notebook_13_quotes_are_those_of_the_logs():
    cells = json.loads((ROOT / "notebooks" / "13_train_on_food.ipynb").read_text())["cells"]
    text = next("".join(cell["source"]) for cell in cells if cell["id"] == "main-finding")
    for way, of_epochs in log("scratch_or_pretrained")["test_accuracy"].items():
        row = " | ".join(f"{values['mean']:.3f} ± {values['std']:.3f}" for values in of_epochs.values())
        assert f"| {way} | {row} |" in text
    photos = [way["test_accuracy"] for way in log("from_weights_photos")["ways"].values()]
    for values in (*photos, log("main_job_photos")["vit"]["test_accuracy"]):
        assert f" {values['mean']:.3f}" in text
    said = "\n".join("".join(cell["source"]) for cell in cells)
    for name, row in log("table7")["results"]["fine-tuning"].items():
        assert re.search(rf"{name}\b[^.,]* {row['test_accuracy']['mean']:.3f}", said), name


def test_the_accuracies_that_notebook_11_quotes_are_those_of_the_log():
    cells = json.loads((ROOT / "notebooks" / "11_ablations.ipynb").read_text())["cells"]
    text = next("".join(cell["source"]) for cell in cells if cell["id"] == "few-read")
    told = json.loads((MEASURED / "few_photos.json").read_text())["told_on"]["variants"]
    gain, of_drawings = told["AdamW"]["gain"], told["many drawings"]["gain"]
    assert all(f" {told[name]['test_accuracy']['mean']:.3f}" in text
               for name in ("recipe", "AdamW", "taught", "many drawings"))
    assert f"{-100 * gain['mean']:.1f} points with a standard error of {100 * gain['standard_error']:.1f}" in text
    assert (f"{100 * of_drawings['mean']:.1f} points with a standard error of "
            f"{100 * of_drawings['standard_error']:.1f}") in text
    assert f"{log('pretraining')['pretrained']['150']['triples']['test_accuracy']['mean']:.3f} (notebook 12)" in text


def test_the_accuracies_that_notebook_12_quotes_are_those_of_the_log():
    cells = json.loads((ROOT / "notebooks" / "12_pretrain_and_finetune.ipynb").read_text())["cells"]
    values = log("pretraining")
    longest, text = values["pretrained"]["150"], next("".join(c["source"]) for c in cells if c["id"] == "cell-31")
    stages = [values["scratch"], *(row["triples"] for row in (values["drawings"], *values["pretrained"].values()))]
    assert all(f"{100 * stage['test_accuracy']['mean']:.1f} %" in text for stage in stages)
    error = f"{100 * statistics.stdev(longest['gain']['each']) / 5**0.5:.1f}"
    assert f"{100 * longest['gain']['mean']:.1f} points, with a standard error of {error}" in text
    for name, way in log("from_weights_photos")["ways"].items():
        row = "| {mean:.3f} | {std:.3f} |".format(**way["test_accuracy"])
        assert f"{name} {row}" in text.replace("`", ""), name
    text = next("".join(cell["source"]) for cell in cells if cell["id"] == "table-9")
    for row in log("table9")["rows"].values():
        assert " | ".join(f"{way['mean']:.3f} ± {way['std']:.3f}" for way in row["test_accuracy"].values()) in text


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_time_at_the_top_of_a_notebook_is_that_of_the_log(notebook):
    text = "".join(json.loads(notebook.read_text())["cells"][0]["source"])
    told = re.search(r"[Aa]bout (half a minute|(\d+) seconds) on (a CPU|two CPU cores)", text)
    seconds = int(told[2] or 30)
    assert seconds / 2 <= log("notebook_time")["seconds"][notebook.stem] <= 1.2 * seconds


def test_the_requirements_are_ranges_without_an_index():
    lines = (ROOT / "requirements.txt").read_text().split("\n")
    assert all(re.fullmatch(r"[a-z-]+>=[\d.]+", line) for line in lines if line)
    needed = {"torch", "torchvision", "matplotlib", "requests", "jupyter", "nbval"}
    assert needed <= {line.split(">=")[0] for line in lines}


def test_the_requirements_are_the_packages_dependencies_and_its_tools():
    project = pytest.importorskip("tomllib").loads((ROOT / "pyproject.toml").read_text())["project"]
    tools = project["optional-dependencies"]["dev"]
    assert (ROOT / "requirements.txt").read_text().split() == project["dependencies"] + tools
    # The first cell of a notebook installs the package alone: everything that is imported must come with it.
    sources = [path.read_text() for path in (ROOT / "going_modular").rglob("*.py")]
    for notebook in (ROOT / "notebooks").rglob("[0-9]*.ipynb"):
        sources += ["".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"]
                    if cell["cell_type"] == "code"]
    imported = set(re.findall(r"^\s*(?:import|from) (\w+)", "\n".join(sources), flags=re.MULTILINE))
    dependencies = {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]}
    assert {name.replace("pillow", "PIL") for name in dependencies} <= imported
    assert imported & {"pandas", "scipy", "sklearn", "tqdm", "torchinfo", "torchmetrics"} <= dependencies


@pytest.mark.parametrize("image", COLAB)
def test_the_first_cell_of_a_notebook_changes_nothing_of_colabs_own(image):
    """It installs the package, and pip exchanges what does not fit: another PyTorch would be 2 GB, and a new kernel."""
    project = pytest.importorskip("tomllib").loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {each.name: each.specifier for each in map(Requirement, project["dependencies"])}
    own = COLAB[image]
    assert {name for name, version in own.items() if version not in needed[name]} == set()
    if image == "2026.06":  # the whole list is known
        assert needed.keys() - own.keys() == {"torchinfo", "torchmetrics"}


def quoted_commands(notebook: Path) -> list[tuple[str, str]]:
    """(command, the paragraph that quotes it) for each command in the text of a notebook, in their order."""
    texts = ["".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"]
             if cell["cell_type"] == "markdown"]
    return [(command, paragraph) for paragraph in "\n".join(texts).split("\n")
            for command in re.findall(r"`((?:python3? -m|torchrun|make|pytest|pip) [^`]+)`", paragraph)]


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").rglob("[0-9]*.ipynb")), ids=lambda file: file.stem)
def test_quoted_commands_can_be_typed(notebook):
    """Where the package alone is installed, as in Colab; what needs the repository says so when it comes up first."""
    needs_clone = []
    for command, paragraph in quoted_commands(notebook):
        program, *options = shlex.split(command)
        if program == "make":
            assert re.search(rf"^{options[0]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE), command
            needs_clone.append(paragraph)
            continue
        assert (program, options.pop(0)) == ("python", "-m"), command
        module, given = options[0], options[1:]
        assert (found := find_spec(module)), command
        if module == "going_modular.train":
            options = config.parse(given)  # exits where one is unknown
            config.check(options)
            assert "output" in options or not options.get("resume"), f"{command}: --resume needs --output"
        else:
            known = re.findall(r'add_argument\(\s*"(--[\w-]+)"', Path(found.origin).read_text())
            assert {option for option in given if option.startswith("--")} <= {*known}, command
        if not module.startswith("going_modular."):
            needs_clone.append(paragraph)
    assert not needs_clone or "in a clone of the repository" in needs_clone[0].lower(), needs_clone[0]


def test_notebooks_quote_commands():
    quoted = [command for notebook in (ROOT / "notebooks").rglob("[0-9]*.ipynb")
              for command, _ in quoted_commands(notebook)]
    assert len(quoted) > 10
