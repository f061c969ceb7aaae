"""Make every picture in images/: python images/make_images.py"""

import sys
from pathlib import Path

from PIL import Image

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))

from going_modular import drawn  # noqa: E402


def digits_and_things() -> Image.Image:
    """Ten columns of digits above all hundred things, a form a row and a pattern a column."""
    digits = drawn.sheet("drawn_digits", rows=3, size=48, gap=3).convert("RGB")
    things = drawn.sheet("drawn_things", rows=10, size=48, gap=3)
    paper = Image.new("RGB", (things.width, digits.height + 12 + things.height), "white")
    paper.paste(digits, (0, 0))
    paper.paste(things, (0, digits.height + 12))
    return paper


PICTURES = {
    "drawn_food.png": lambda: drawn.sheet("drawn10", rows=6, size=72),
    "drawn_digits_and_things.png": digits_and_things,
}

if __name__ == "__main__":
    for name, make in PICTURES.items():
        # 32 levels a channel: the eye does not miss the others, and without them the files are half the size
        make().point(lambda level: level // 8 * 8 + 4).save(FOLDER / name, optimize=True)
        print(f"{name}: {(FOLDER / name).stat().st_size / 1000:.0f} kB")
