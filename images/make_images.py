"""Make every picture in images/: python images/make_images.py"""

import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))

from benchmarks import drawings  # noqa: E402
from going_modular import drawn, plots, utils  # noqa: E402
from going_modular.lessons import animations, diagrams  # noqa: E402
from going_modular.paper import inspection  # noqa: E402


def digits_and_things() -> Image.Image:
    """Ten columns of digits above all hundred things, a form a row and a pattern a column."""
    digits = drawn.sheet("drawn_digits", rows=3, size=48, gap=3).convert("RGB")
    things = drawn.sheet("drawn_things", rows=10, size=48, gap=3)
    paper = Image.new("RGB", (things.width, digits.height + 12 + things.height), "white")
    paper.paste(digits, (0, 0))
    paper.paste(things, (0, digits.height + 12))
    return paper


def dishes_things_and_fractals() -> Image.Image:
    """A row each of the kinds of pictures that the model drawings was trained on, before augmentation, and a second one
    of fractals: two rows show two pictures of each class."""
    rows = []
    for name, of_class in (("drawn10", 1), ("drawn_things", 1), ("fractals", 2)):
        images = [image for _, _, image in drawings.pictures(name, "train", of_class)]
        last = len(images) // of_class - 1
        rows += [[images[number * last // 9 * of_class + index] for number in range(10)] for index in range(of_class)]
    size, gap = drawings.SIZE, 3
    paper = Image.new("RGB", (10 * (size + gap) - gap, len(rows) * (size + gap) - gap), "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            paper.paste(image, (x * (size + gap), y * (size + gap)))
    return paper


def tokens() -> list[Image.Image]:
    pizza = drawn.draw_food("pizza", np.random.default_rng(13), size=240)
    return animations.patches_animation(pizza, patch_size=80)


def rollout() -> plt.Figure:
    """A photo, what the model food98 sees of it, and where its attention comes from (Appendix D.8 of the paper)."""
    model, info = utils.load_model("food98")
    photo = Image.open(FOLDER.parent / "explorer" / "pictures" / "coffee.webp").convert("RGB")
    images = info.transform(photo)[None]
    shown = inspection.overlay(images, inspection.rollout_maps(model, images), model)[0]
    pictures = {"photo": photo, "what the model sees": images[0].movedim(0, 2) / 2 + 0.5, "attention rollout": shown}
    figure, axes = plt.subplots(1, 3, figsize=(8, 2.4), layout="constrained", width_ratios=(1.5, 1, 1))
    for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
        axis.imshow(picture)
        axis.set_title(title, fontsize=11)
        axis.axis("off")
    return figure


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
    "drawings.png": dishes_things_and_fractals,
}
FIGURES = {"architecture.png": diagrams.architecture, "rollout.png": rollout}
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
