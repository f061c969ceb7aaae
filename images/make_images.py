"""Make every picture in images/: python images/make_images.py"""

import sys
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))

from going_modular import drawn, plots  # noqa: E402
from going_modular.lessons import animations, diagrams  # noqa: E402


def digits_and_things() -> Image.Image:
    """Ten columns of digits above all hundred things, a form a row and a pattern a column."""
    digits = drawn.sheet("drawn_digits", rows=3, size=48, gap=3).convert("RGB")
    things = drawn.sheet("drawn_things", rows=10, size=48, gap=3)
    paper = Image.new("RGB", (things.width, digits.height + 12 + things.height), "white")
    paper.paste(digits, (0, 0))
    paper.paste(things, (0, digits.height + 12))
    return paper


def tokens() -> list[Image.Image]:
    pizza = drawn.draw_food("pizza", np.random.default_rng(13), size=240)
    return animations.patches_animation(pizza, patch_size=80)


def save_gif(frames: list[Image.Image], file: Path) -> None:
    """Nine frames a second, all of the same 256 colours; the last one stays for three seconds, then it starts again."""
    some = np.concatenate([np.asarray(frame) for frame in frames[::3]])
    palette = Image.fromarray(some).quantize(256, Image.Quantize.MAXCOVERAGE)
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    duration = [110] * len(others) + [3000]
    first.save(file, save_all=True, append_images=others, duration=duration, loop=0, optimize=True)


PICTURES = {
    "drawn_food.png": lambda: drawn.sheet("drawn10", rows=6, size=72),
    "drawn_digits_and_things.png": digits_and_things,
}
FIGURES = {"architecture.png": diagrams.architecture}
ANIMATIONS = {"image_to_tokens.gif": tokens, "forward_pass.gif": animations.forward_animation}

if __name__ == "__main__":
    matplotlib.use("Agg")
    for name, make in PICTURES.items():
        # 32 levels a channel: the eye does not miss the others, and without them the files are half the size
        make().point(lambda level: level // 8 * 8 + 4).save(FOLDER / name, optimize=True)
    for name, make in FIGURES.items():
        plots.save(make(), FOLDER / name)
    for name, make in ANIMATIONS.items():
        save_gif(make(), FOLDER / name)
    for name in [*PICTURES, *FIGURES, *ANIMATIONS]:
        print(f"{name}: {(FOLDER / name).stat().st_size / 1000:.0f} kB")
