"""Write the explorer: one HTML page that holds trained models and runs them where it is opened.

python -m explorer.build [CHECKPOINT ...] [--output FILE] [--notebooks ADDRESS]

A checkpoint is a file, the folder of a run, or the name of a model that comes with the package;
without one, the page gets those of MODELS that are there. It needs no server and loads nothing:
scripts, style, pictures and weights (half precision) are in the page.
"""
import argparse
import base64
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS
from going_modular import utils
from going_modular.drawn.sets import SETS, draw_picture
from notebooks.address import address

HERE = Path(__file__).parent
# The package's models that the page shows, and what they have seen.
MODELS = {
    "drawn_food": "drawings of pizza, steak and sushi",
    "food98": "photos of 98 dishes: Food-101 without pizza, steak and sushi",
}
SCRIPTS = ("vit.js", "preprocess.js", "state.js", "charts.js", "stage.js", "screens.js",
           "intervene.js", "tour.js", "app.js")
# (data set, label, index): the three dishes of `drawn` twice, and some other dishes once.
DRAWN = [("drawn", label, index) for index in (1, 0) for label in range(3)]
DRAWN += [("drawn10", SETS["drawn10"].classes.index(dish), 0)
          for dish in ("burger", "donuts", "ramen")]
PHOTOS = {"coffee": ("a cup of coffee", "photo of a cup of coffee: Rachel Michetti, CC0"),
          "cat": ("a cat", "photo of a cat: Stefan van der Walt, CC0")}
OTHER_NAMES = {"burger": ["hamburger"]}  # what Food-101 calls a drawn dish, where it is another name
DRAWN_SIZE = 192  # pixels; the model sees them scaled down, as it does photos


def as_json(value: Any) -> str:
    """JSON that may stand inside a script element, which "</" would end."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def as_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def results_of(checkpoint: Path) -> dict[str, Any]:
    """The results of the run that a checkpoint comes from; {} where they are not to be found."""
    packaged = checkpoint.parent == utils.TRAINED
    file = (RESULTS / f"trained_{checkpoint.stem}.json" if packaged
            else checkpoint.parent / "results.json")
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def describe(source: str) -> tuple[dict[str, Any], str]:
    """What the page needs to know of a model, and its weights: half precision in base64, in the
    order of `parameters`.

    Raises ValueError for a model that the page can't run: vit.js has square images, the class
    token, a linear head and the exact GELU alone.
    """
    checkpoint = utils.checkpoint_file(source)
    model, info = utils.load_model(checkpoint)
    settings, results = model.settings, results_of(checkpoint)
    needed = dict(pool="token", gelu="erf", representation_size=None, in_channels=3)
    for name, value in needed.items():
        if settings[name] != value:
            raise ValueError(f"{source} has {name}={settings[name]!r}, and the explorer runs "
                             f"models with {name}={value!r} alone: choose another checkpoint")
    if isinstance(settings["image_size"], tuple):
        raise ValueError(f"{source} takes images of {utils.in_pixels(settings['image_size'])} px, and "
                         "the explorer squares alone: choose another checkpoint")
    name = checkpoint.parent.name if checkpoint.name == "last.pt" else checkpoint.stem
    weights = {name: tensor.half().numpy() for name, tensor in model.state_dict().items()}
    description = dict(
        name=name, title=name.replace("_", " "), class_names=info.class_names, settings=settings,
        seen=MODELS.get(name, str(info.settings.get("data"))),
        results={key: results.get(key) for key in ("train_images", "test_images", "test_accuracy")},
        parameters=[[name, array.size] for name, array in weights.items()])
    halves = b"".join(array.astype("<f2").tobytes() for array in weights.values())
    return description, as_base64(halves)


def pictures() -> Iterator[dict[str, Any]]:
    """The pictures that the page brings: drawn ones of the test sets, and free photos. `dish` is
    what a picture shows, `classes` the names under which a model may know it."""
    for name, label, index in DRAWN:
        file, dish = io.BytesIO(), SETS[name].classes[label]
        draw_picture(SETS[name], label, "test", index, 0, DRAWN_SIZE).save(
            file, "WEBP", quality=80, method=6)
        yield dict(name=f"{dish}{index + 1}", text=f"drawing of {dish}", dish=dish,
                   classes=[dish, *OTHER_NAMES.get(dish, [])],
                   data=as_base64(file.getvalue()))
    for name, (dish, text) in PHOTOS.items():
        content = (HERE / "pictures" / f"{name}.webp").read_bytes()
        yield dict(name=name, text=text, dish=dish, classes=[], data=as_base64(content))


def page(sources: Sequence[str], notebooks: str) -> str:
    """The whole page. notebooks: the address of a notebook, with {name} for its name.

    Raises ValueError for a checkpoint that can't be used.
    """
    models = [describe(source) for source in sources]
    data = {"models": [model for model, _ in models], "pictures": [*pictures()]}
    blocks = [f'<script type="application/json" id="{name}">{as_json(value)}</script>'
              for name, value in data.items()]
    blocks += [f'<script type="text/plain" id="weights-{model["name"]}">{weights}</script>'
               for model, weights in models]
    blocks += [f"<script>\n{(HERE / name).read_text(encoding='utf-8')}</script>"
               for name in SCRIPTS]
    html = (HERE / "index.html").read_text(encoding="utf-8")
    html = html.replace("{{style}}", (HERE / "style.css").read_text(encoding="utf-8"))
    for name in sorted(path.stem for path in (HERE.parent / "notebooks").glob("[0-9]*.ipynb")):
        html = html.replace(f"{{{{{name}}}}}", notebooks.format(name=name))
    return html.replace("{{scripts}}", "\n".join(blocks))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status: 0, or 2 after an error, which is printed."""
    parser = argparse.ArgumentParser("python -m explorer.build",
                                     description="Write the explorer, one HTML page.")
    parser.add_argument("checkpoints", nargs="*", metavar="CHECKPOINT",
                        help="checkpoints, folders of runs, or names of models that come with the "
                        f"package; default: those of {', '.join(MODELS)} that are there")
    parser.add_argument("--output", type=Path, default=HERE / "dist" / "explorer.html",
                        metavar="FILE", help="default: explorer/dist/explorer.html")
    parser.add_argument("--notebooks", metavar="ADDRESS",
                        default=f"https://github.com/{address()}/blob/main/notebooks/{{name}}.ipynb",
                        help="where links to the notebooks lead, with {name} for a notebook's name")
    args = parser.parse_args(argv)
    there = [name for name in MODELS if (utils.TRAINED / f"{name}.pt").is_file()]
    checkpoints = args.checkpoints or there
    try:
        if not checkpoints:
            raise ValueError(f"neither of {', '.join(MODELS)} is in {utils.TRAINED}: name a "
                             "checkpoint, or the folder of a run")
        html = page(checkpoints, args.notebooks)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(html, encoding="utf-8")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.2f} MB, "
          f"models: {', '.join(checkpoints)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
