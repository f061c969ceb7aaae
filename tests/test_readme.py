"""The README's promises: its commands, options, files, script and figures."""
import re
import subprocess
import sys
from pathlib import Path

from going_modular import config, data_setup, train, vit

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(python)?\n(.*?)```", README, flags=re.DOTALL)


def test_its_make_targets_exist():
    targets = set(re.findall(r"^make (\w+)$", README, flags=re.MULTILINE))
    assert targets == {"train", "test"}
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_ci_calls_the_test_command():
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("\nmake test")
    assert "bash .ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()


def test_its_options_exist():
    known = {config.flag(name)[2:] for name in config.OPTIONS} | {"help"}
    known |= {"nbval", "nbval-current-env", "nproc_per_node"}  # pytest's and torchrun's
    for script in (ROOT / "going_modular" / "predictions.py", *(ROOT / "benchmarks").glob("*.py")):
        known |= set(re.findall(r'add_argument\("--([\w-]+)"', script.read_text()))
    mentioned = set(re.findall(r"(?<![\w-])--(\w[\w-]*)", README))
    assert {"data", "output", "resume"} <= mentioned <= known, mentioned - known


def test_its_links_lead_to_files():
    for link in re.findall(r"\]\(((?!http)[^)]+)\)", README):
        base = ROOT if (ROOT / link).exists() else ROOT / "going_modular"
        assert (base / link).exists(), link


def test_its_names_exist():
    row = re.search(r"`--data` also takes a name: (.*)\[data", README).group(1)
    names = re.findall(r"`(\w+)`", row)
    assert set(names) == set(data_setup.NAMES) - {"auto"}
    sizes = re.search(r"; (.*) come with any patch and image size", README).group(1)
    assert set(re.findall(r"\w+", sizes)) - {"and"} == set(vit.VARIANTS) - {"Mini"}


def test_its_files_of_a_run_are_those_written(colours, tmp_path):
    sentence = re.search(r"A run folder holds (.*?)\. Ctrl-C", README).group(1)
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

    for name, section in readme.sections().items():
        assert f"<!-- {name} -->\n{section}\n<!-- /{name} -->" in README, "run: python -m benchmarks.readme"


def test_the_requirements_are_ranges_without_an_index():
    lines = (ROOT / "requirements.txt").read_text().split("\n")
    assert all(re.fullmatch(r"[a-z]+>=[\d.]+", line) for line in lines if line)
    needed = {"torch", "torchvision", "matplotlib", "requests", "tqdm", "torchinfo", "torchmetrics", "jupyter", "nbval",
              "pytest", "ruff"}
    assert needed <= {line.split(">=")[0] for line in lines}
