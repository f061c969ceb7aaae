"""Write the repository's address, which stands in pyproject.toml, into all notebooks and the README:
python -m notebooks.address"""
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def address() -> str:
    """OWNER/REPO, from pyproject.toml."""
    return re.search(r'Repository = "https://github.com/([^"]+)"', (ROOT / "pyproject.toml").read_text()).group(1)


def with_address(text: str) -> str:
    """The text of a notebook or of the README with that address in its badges and its pip line."""
    text = re.sub(r"(git\+https://github\.com/)[\w.-]+/[\w.-]+", rf"\g<1>{address()}", text)
    return re.sub(r"(colab\.research\.google\.com/github/)[\w.-]+/[\w.-]+(/blob)", rf"\g<1>{address()}\2", text)


def files() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "notebooks").rglob("[0-9]*.ipynb"))]


if __name__ == "__main__":
    for file in files():
        file.write_text(with_address(file.read_text()))
