"""Write the explorer: one HTML page that holds trained models and runs them where it is opened.

python -m explorer.build [CHECKPOINT ...] [--output FILE] [--notebooks ADDRESS]

Without checkpoints the page gets those that come with the package. It needs no server and loads
nothing: scripts, style, pictures and weights (half precision) are in the page.
"""
import argparse
import base64
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from going_modular import utils
from going_modular.drawn.sets import SETS, draw_picture
from notebooks.address import address

HERE = Path(__file__).parent
TRAINED = HERE.parent / "going_modular" / "weights" / "trained"
SCRIPTS = ("vit.js", "preprocess.js", "state.js", "charts.js", "stage.js", "screens.js",
           "intervene.js", "tour.js", "app.js")
# Where the three dishes of the drawn set are shown twice, and some other dishes once.
DRAWN = [("drawn", label, index) for index in (1, 0) for label in range(3)]
DRAWN += [("drawn10", SETS["drawn10"].classes.index(name), 0) for name in ("burger", "donuts", "ramen")]
PHOTOS = {"coffee": "photo of a cup of coffee: Rachel Michetti, CC0",
          "cat": "photo of a cat: Stefan van der Walt, CC0"}
DRAWN_SIZE = 192  # pixels; the model sees them scaled down, as it does photos
# What a model has seen, by the name of its data set.
SEEN = {
    "drawn": "drawings of pizza, steak and sushi, made by a program",
    "drawn10": "drawings of ten dishes, made by a program",
    "food101_64": "photos of 98 dishes: Food-101 without pizza, steak and sushi",
}


def as_json(value: Any) -> str:
    """JSON that may stand inside a script element, which "</" would end."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def as_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def describe(checkpoint: Path) -> tuple[dict[str, Any], str]:
    """What the page needs to know of a model, and its weights: half precision in base64, in the
    order of `parameters`.

    Raises ValueError for a model that the page can't run: vit.js has the class token, a linear
    head and the exact GELU alone.
    """
    model, info = utils.load_model(checkpoint)
    settings, history = model.settings, utils.read_checkpoint(checkpoint).get("history")
    needed = dict(pool="token", gelu="erf", representation_size=None, in_channels=3)
    for name, value in needed.items():
        if settings[name] != value:
            raise ValueError(f"{checkpoint} has {name}={settings[name]!r}, and the explorer runs "
                             f"models with {name}={value!r} alone: choose another checkpoint")
    data = Path(str(info.settings.get("data"))).name
    weights = {name: tensor.half().numpy() for name, tensor in model.state_dict().items()}
    description = dict(
        name=checkpoint.stem, title=checkpoint.stem.replace("_", " "), seen=SEEN.get(data, data),
        accuracy=history[-1]["test_acc"] if history else None, class_names=info.class_names,
        settings=settings, parameters=[[name, array.size] for name, array in weights.items()])
    return description, as_base64(b"".join(array.astype("<f2").tobytes() for array in weights.values()))


def pictures() -> Iterator[dict[str, str]]:
    """The pictures that the page brings: drawn ones of the test sets, and free photos."""
    for name, label, index in DRAWN:
        file, dish = io.BytesIO(), SETS[name].classes[label]
        draw_picture(SETS[name], label, "test", index, 0, DRAWN_SIZE).save(
            file, "WEBP", quality=80, method=6)
        yield dict(name=f"{dish}{index + 1}", text=f"drawing of {dish.replace('_', ' ')}",
                   data=as_base64(file.getvalue()))
    for name, text in PHOTOS.items():
        yield dict(name=name, text=text, data=as_base64((HERE / f"pictures/{name}.webp").read_bytes()))


def page(checkpoints: Sequence[Path], notebooks: str) -> str:
    """The whole page. notebooks: the address of a notebook, with {name} for its name.

    Raises ValueError for a checkpoint that can't be used.
    """
    models = [describe(checkpoint) for checkpoint in checkpoints]
    blocks = [f'<script type="application/json" id="models">{as_json([m for m, _ in models])}</script>',
              f'<script type="application/json" id="pictures">{as_json([*pictures()])}</script>']
    blocks += [f'<script type="text/plain" id="weights-{model["name"]}">{weights}</script>'
               for model, weights in models]
    blocks += [f"<script>\n{(HERE / name).read_text(encoding='utf-8')}</script>" for name in SCRIPTS]
    html = (HERE / "index.html").read_text(encoding="utf-8")
    html = html.replace("{{style}}", (HERE / "style.css").read_text(encoding="utf-8"))
    for name in sorted(path.stem for path in (HERE.parent / "notebooks").glob("[0-9]*.ipynb")):
        html = html.replace(f"{{{{{name}}}}}", notebooks.format(name=name))
    return html.replace("{{scripts}}", "\n".join(blocks))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status: 0, or 2 after an error, which is printed."""
    parser = argparse.ArgumentParser("python -m explorer.build",
                                     description="Write the explorer, one HTML page.")
    parser.add_argument("checkpoints", nargs="*", type=Path, metavar="CHECKPOINT",
                        help="trained models; default: those that come with the package")
    parser.add_argument("--output", type=Path, default=HERE / "dist" / "explorer.html",
                        metavar="FILE", help="default: explorer/dist/explorer.html")
    parser.add_argument("--notebooks", metavar="ADDRESS",
                        default=f"https://github.com/{address()}/blob/main/notebooks/{{name}}.ipynb",
                        help="where links to the notebooks lead, with {name} for a notebook's name")
    args = parser.parse_args(argv)
    checkpoints = args.checkpoints or sorted(TRAINED.glob("*.pt"))
    try:
        if not checkpoints:
            raise ValueError(f"no model in {TRAINED}: name a checkpoint, such as runs/NAME/last.pt")
        html = page(checkpoints, args.notebooks)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(html, encoding="utf-8")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.2f} MB, "
          f"models: {', '.join(path.stem for path in checkpoints)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
