"""Interactive figures: each is one piece of HTML that asks nothing of a network or a kernel, and works in notebooks and
on the site, by mouse and by keyboard.

What a figure shows first is written here, so that it can be read where no scripts run; its script, in figures/, takes
over from there with the same formulas. HTML of the same arguments is the same on every machine: numbers are computed in
float64 and then rounded.
"""
import base64
import copy
import html
import io
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.colors import to_rgb
from numpy.typing import ArrayLike
from PIL import Image

from going_modular import plots
from going_modular.vit import VARIANTS, TransformerEncoderBlock, ViT

FIGURES = Path(__file__).parent / "figures"
MOST_BYTES = 60_000  # of a figure: notebooks that hold some of them stay small
COLORS = ("BLUE", "ORANGE", "GREEN", "RED", "GREY")


@dataclass(frozen=True)
class Interactive:
    """A figure: notebooks show its HTML, and its text where there is none."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


# ----------------------------------------------------------------------------------------------------------------------
# What all figures share


def fixed(value: float, digits: int) -> str:
    """A number with so many digits after the point, as JavaScript's toFixed rounds it, with a real minus sign."""
    rounded = Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return f"{abs(rounded) if rounded == 0 else rounded:f}".replace("-", "−")


def place(i: int, columns: int) -> str:
    """Where patch number i (from 0) lies, counted from 1."""
    return f"row {i // columns + 1}, column {i % columns + 1}"


def fill(template: str, values: Mapping[str, object]) -> str:
    """The template with each {{name}} replaced by its value."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: str(values[match[1]]), template)


def figure(name: str, data: object, values: Mapping[str, object], text: str) -> Interactive:
    """The figure of figures/NAME.html: data is for its script, values for its first state, and text says what that is.

    Raises ValueError for a figure that is larger than MOST_BYTES.
    """
    identity = f"vit-{name.replace('_', '-')}"
    parts = {file: (FIGURES / file).read_text(encoding="utf-8")
             for file in ("shared.css", "shared.js", f"{name}.html")}
    stored = json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    inner = fill(parts[f"{name}.html"], {
        **values, "id": identity, "live": html.escape(text),
        "style": f"#{identity} {{\n{parts['shared.css']}}}",
        "shared": fill(parts["shared.js"], {"id": identity, "data": stored})})
    palette = ";".join(f"--{color.lower()}:" + " ".join(
        f"{round(255 * part)}" for part in to_rgb(getattr(plots, color))) for color in COLORS)
    # The attribute keeps JupyterLab's shortcuts away from the keys that are pressed in the figure.
    page = f'<div id="{identity}" data-lm-suppress-shortcuts="true" style="{palette}">\n{inner}</div>'
    if (size := len(page.encode())) > MOST_BYTES:
        raise ValueError(f"the figure would take {size:,} bytes of HTML, more than {MOST_BYTES:,}: "
                         "take a smaller model or picture")
    return Interactive(page, text)


def cells(numbers: ArrayLike, limit: float, texts: Iterable[str], columns: int,
          chosen: int | None = None) -> str:
    """The rows of a table of numbers, coloured up to limit as `paint` does it. With chosen, which may be none (-1), its
    cells can be chosen."""
    found = []
    for i, (number, text) in enumerate(zip(np.ravel(numbers).tolist(), texts)):
        depth = min(1.0, abs(number) / float(limit))
        names = " class=below" * (number < 0) or " class=deep" * (depth > 0.93)
        choice = ("" if chosen is None else f" aria-selected={str(i == chosen).lower()}"
                  f" tabindex={0 if i == max(chosen, 0) else -1}")
        found.append(f'<td style="--a:{fixed(depth, 2)}"{names}{choice}>{text}</td>')
    rows = ["".join(found[i : i + columns]) for i in range(0, len(found), columns)]
    return "<tbody>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</tbody>"


def buttons(names: Iterable[object], chosen: int) -> str:
    return "".join(f'<button aria-pressed="{str(i == chosen).lower()}">{html.escape(str(name))}</button>'
                   for i, name in enumerate(names))


def source(picture: Image.Image) -> str:
    """A picture as an address. BMP, as compressed formats differ between versions of their libraries."""
    file = io.BytesIO()
    picture.convert("RGB").save(file, "BMP")
    return "data:image/bmp;base64," + base64.b64encode(file.getvalue()).decode()


# ----------------------------------------------------------------------------------------------------------------------
# Layers: shapes, parameters, multiply-adds

PARTS = ("patches and head", "projections of attention: D²", "pairs of tokens: T²", "MLP")
# Name, shape for one image, multiply-adds, parameters, part, whether it stands in each block. Formulas are sums of
# products of N patches, T tokens, P², C channels, D hidden size, M MLP size, k heads and K classes.
LAYERS = (
    ("patch_embedding", "N × D", "N · P² · C · D", "P² · C · D + D", 0, False),
    ("class_token", "T × D", "", "D", 0, False),
    ("position_embedding", "T × D", "", "T · D", 0, False),
    ("norm1", "T × D", "", "2D", 1, True),
    ("msa.qkv", "T × 3D", "T · D · 3D", "D · 3D + 3D", 1, True),
    ("softmax(q kᵀ)", "k × T × T", "T · T · D", "", 2, True),
    ("weights · v", "T × D", "T · T · D", "", 2, True),
    ("msa.out", "T × D", "T · D · D", "D · D + D", 1, True),
    ("norm2", "T × D", "", "2D", 3, True),
    ("mlp.hidden", "T × M", "T · D · M", "D · M + M", 3, True),
    ("mlp.out", "T × D", "T · M · D", "M · D + D", 3, True),
    ("norm", "T × D", "", "2D", 0, False),
    ("head", "K", "D · K", "D · K + K", 0, False),
)


def factor(text: str, symbols: Mapping[str, int]) -> int:
    """The value of a symbol with or without a number before it, such as 3D."""
    times, symbol = re.fullmatch(r"(\d*)(.*)", text).groups()  # type: ignore[union-attr]
    return int(times or 1) * symbols[symbol]


def evaluate(formula: str, symbols: Mapping[str, int]) -> int:
    """The value of a formula of LAYERS; 0 for an empty one."""
    return sum(math.prod(factor(part, symbols) for part in product.split(" · "))
               for product in formula.split(" + ") if formula)


def in_numbers(formula: str, symbols: Mapping[str, int]) -> str:
    """A formula or a shape of LAYERS with numbers for symbols."""
    return re.sub("[^ ·+×]+", lambda match: f"{factor(match[0], symbols):,}", formula)


def short(value: int) -> str:
    """Three digits and a unit: 349 M for 348,585,984."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * size:
            digits = 2 if value < 9.995 * size else 1 if value < 99.95 * size else 0
            return f"{fixed(value / size, digits)} {unit}"
    return f"{value:,}"


def layers(variant: str = "B/16", image_size: int = 224, num_classes: int = 1000) -> Interactive:
    """The shape, the parameters and the multiply-adds of each layer, for any variant and size (Equations 1 to 4,
    Table 1), and where they go. All tokens are counted in all layers, as `count_macs` does it.

    Raises ValueError for an unknown variant and for sizes that do not fit together.
    """
    with torch.device("meta"):
        model = ViT.from_variant(variant, image_size=image_size, num_classes=num_classes)
    name, patch_size, sizes = variant.partition("/")[0], model.settings["patch_size"], model.settings
    num_patches = math.prod(model.grid)
    symbols = {"N": num_patches, "T": num_patches + 1, "P²": patch_size**2, "C": 3, "D": sizes["hidden_size"],
               "M": sizes["mlp_size"], "k": sizes["num_heads"], "K": num_classes}
    chosen = 4  # msa.qkv
    counts = {"macs": [evaluate(row[2], symbols) for row in LAYERS],
              "parameters": [evaluate(row[3], symbols) for row in LAYERS]}
    times = [sizes["num_layers"] if row[5] else 1 for row in LAYERS]
    totals = {kind: sum(map(int.__mul__, times, values)) for kind, values in counts.items()}
    stacks, bars = {}, {}
    for kind, values in counts.items():
        weighted = [many * value for many, value in zip(times, values)]
        shares = [sum(value for value, row in zip(weighted, LAYERS) if row[4] == part) / totals[kind]
                  for part in range(len(PARTS))]
        stacks[kind] = "".join(f'<i class="part{part}" style="--a:{fixed(share, 3)}"></i>'
                               for part, share in enumerate(shares))
        bars[kind] = [fixed(value / max(weighted), 3) for value in weighted]
    rows = ""
    for i, (layer, shape, _, _, part, in_block) in enumerate(LAYERS):
        if in_block and not LAYERS[i - 1][5]:
            rows += (f'<tr class="title"><td colspan="4" data-value="repeat">one of {sizes["num_layers"]} '
                     "equal blocks (bars: all of them)</td></tr>")
        numbers = "".join(f'<td class="bar part{part}" data-{kind}="" style="--a:{bars[kind][i]}">'
                          f"{short(counts[kind][i])}</td>" for kind in ("parameters", "macs"))
        rows += (f'<tr{" class=block" * in_block}><td><button aria-pressed="{str(i == chosen).lower()}">'
                 f'{layer.replace("_", "_<wbr>")}</button></td>'
                 f'<td data-shape="">{in_numbers(shape, symbols)}</td>{numbers}</tr>')
    rows += ('<tr class="total"><td colspan="2">all layers, all blocks</td>' + "".join(
        f'<td data-value="total_{kind}">{short(totals[kind])}</td>' for kind in ("parameters", "macs")) + "</tr>")
    title, _, macs, parameters, *_ = LAYERS[chosen]
    detail = "; ".join(f"{kind} {formula} = {in_numbers(formula, symbols)} = {evaluate(formula, symbols):,}"
                       for kind, formula in (("multiply-adds", macs), ("parameters", parameters)))
    data = dict(variants=VARIANTS, num_classes=num_classes, variant=name, layer=chosen,
                layers=[dict(zip(("name", "shape", "macs", "parameters", "part", "block"), row)) for row in LAYERS])
    legend = "".join(f'<span><i class="part{i}"></i>{part}</span>' for i, part in enumerate(PARTS))
    text = (f"ViT-{name}/{patch_size} at {image_size} px: {num_patches + 1:,} tokens, "
            f"{totals['parameters']:,} parameters, {totals['macs']:,} multiply-adds. In {title}: {detail}.")
    return figure("layers", data, dict(
        name=f"{name}/{patch_size}", image_size=image_size, patch_size=patch_size,
        variants=buttons(VARIANTS, list(VARIANTS).index(name)), legend=legend, rows=rows,
        stack_macs=stacks["macs"], stack_parameters=stacks["parameters"]), text)


# ----------------------------------------------------------------------------------------------------------------------
# The grid of patches


def patch_grid(image: Image.Image, image_size: int = 224, patch_size: int = 16, hidden_size: int = 768) -> Interactive:
    """From an image to tokens (Section 3.1): N, P^2 C, tokens, and the parameters of the projection, with the grid
    drawn over the image, a square, and the place of a patch in the sequence.

    Raises ValueError where patch_size does not divide image_size, and for an image that is no square.
    """
    if image.width != image.height:
        raise ValueError(f"the image has {image.width} x {image.height} pixels: cut it to a square")
    if image_size % patch_size:
        raise ValueError(f"patch_size ({patch_size}) does not divide image_size ({image_size})")
    columns, channels = image_size // patch_size, 3
    num_patches, flat = columns**2, patch_size**2 * channels
    tokens = num_patches + 1
    across = math.ceil(math.sqrt(8 * tokens))
    row, column = columns // 3, columns // 2
    chosen = row * columns + column

    def square(i: int) -> str:
        return f"M{10 * (i % across) + 1} {10 * (i // across) + 1}h8v8h-8z"

    counts = (
        ("N", "patches: N = H W / P²", f"{image_size} · {image_size} / {patch_size}² = ", num_patches),
        ("flat", "numbers in a patch: P² C", f"{patch_size}² · {channels} = ", flat),
        ("T", "tokens: T = N + 1", f"{num_patches:,} + 1 = ", tokens),
        ("projection", "parameters of the projection: P² C · D + D",
         f"{flat:,} · {hidden_size:,} + {hidden_size:,} = ", flat * hidden_size + hidden_size),
        ("positions", "position embeddings: T · D", f"{tokens:,} · {hidden_size:,} = ", tokens * hidden_size),
        ("pairs", "pairs of tokens, for each head: T²", f"{tokens:,}² = ", tokens**2))
    rows = "".join(f'<tr><td>{label}</td><td><small data-value="{name}">{formula}</small>'
                   f'<b data-value="{name}_value">{value:,}</b></td></tr>' for name, label, formula, value in counts)
    lines = range(patch_size, image_size, patch_size)
    text = (f"The patch in {place(chosen, columns)} is patch ({row + 1} − 1) · {columns} + {column + 1} = "
            f"{chosen + 1:,} of {num_patches:,}: {flat:,} numbers, of which the projection makes {hidden_size:,}.")
    return figure("patch_grid", dict(chosen=chosen), dict(
        alt="the image that is cut into patches", source=source(image.resize((96, 96), Image.Resampling.BOX)),
        image_size=image_size, patch_size=patch_size, channels=channels, hidden_size=hidden_size, rows=rows,
        grid="".join(f"M{at} 0V{image_size}M0 {at}H{image_size}" for at in lines),
        chosen=f'x="{column * patch_size}" y="{row * patch_size}" width="{patch_size}" height="{patch_size}"',
        view=f"0 0 {10 * across} {10 * -(-tokens // across)}", first=square(0), token=square(chosen + 1),
        patches="".join(square(i + 1) for i in range(num_patches))), text)


# ----------------------------------------------------------------------------------------------------------------------
# Position embeddings


def position_similarity(embeddings: Mapping[str, torch.Tensor]) -> Interactive:
    """The cosine similarity of a chosen place's position embedding with those of all places (Figure 7, centre).

    embeddings: title -> [1, tokens, hidden_size], for a square grid of patches, with or without a class token in front.
    Raises ValueError for embeddings of other shapes, and of different ones.
    """
    cosines = {}
    for title, embedding in embeddings.items():
        columns = math.isqrt(embedding.shape[-2])
        if embedding.ndim != 3 or embedding.shape[1] not in (columns**2, columns**2 + 1):
            raise ValueError(f"{title}: expected [1, tokens, hidden_size] for a square grid, with or without a class "
                             f"token, not {[*embedding.shape]}")
        unit = F.normalize(embedding[0, -columns**2:].detach().cpu().double(), dim=-1)
        cosines[title] = (100 * unit @ unit.T).round().int()  # [places, places], in hundredths
    if len({len(matrix) for matrix in cosines.values()}) != 1:
        raise ValueError("expected embeddings of one grid, one or more, not of "
                         + (", ".join(f"{len(matrix)} places" for matrix in cosines.values()) or "none"))
    columns, titles = math.isqrt(len(next(iter(cosines.values())))), list(cosines)
    chosen = (columns // 2) * columns + columns // 2
    found = cosines[titles[0]][chosen].tolist()
    down, right = (np.abs(axis - axis[chosen]) for axis in divmod(np.arange(columns**2), columns))
    steps = np.maximum(down, right)
    groups = {"same row": down == 0, "same column": right == 0, "the places around": steps == 1,
              "farther away": steps > 1}
    means = ""
    for name, group in groups.items():
        members = [value for value, inside, step in zip(found, group, steps) if inside and step]
        mean = sum(members) / len(members) / 100 if members else 0
        means += (f'<tr class="{"below" * (mean < 0)}"><td>{name}</td>'
                  f'<td class="bar" style="--a:{fixed(abs(mean), 2)}"></td><td>{fixed(mean, 2)}</td></tr>')
    others = sorted((i for i in range(columns**2) if i != chosen), key=lambda i: (-found[i], i))
    text = (f"{titles[0]}: the embedding of {place(chosen, columns)} is most like that of {place(others[0], columns)} "
            f"({fixed(found[others[0]] / 100, 2)}) and least like that of {place(others[-1], columns)} "
            f"({fixed(found[others[-1]] / 100, 2)}).")
    halves = [[value for i, row in enumerate(matrix.tolist()) for value in row[i:]] for matrix in cosines.values()]
    numbers = np.array(found) / 100
    return figure("position_similarity", dict(columns=columns, titles=titles, chosen=chosen, cosines=halves), dict(
        choices=buttons(titles, 0), means=means,
        map=cells(numbers, 1, [fixed(value, 2) for value in numbers], columns, chosen)), text)


# ----------------------------------------------------------------------------------------------------------------------
# Attention


@torch.no_grad()
def attention(model: ViT, image: Image.Image, layer: int = 0) -> Interactive:
    """Attention by hand, in one layer (counted from 0) of a trained model: who asks, the dot products of its query with
    all keys, the softmax, and the weighted sum of the values (Equations 5 to 7).

    image has the model's size; q, k and v are rounded to one decimal, so that what is shown can be computed from them.
    Raises ValueError for a model without a class token or of images that are no squares, for another image, and for a
    layer that the model does not have.
    """
    settings = model.settings
    if settings["pool"] != "token" or not isinstance(settings["image_size"], int):
        raise ValueError("the figure shows models with a class token and square images alone")
    if image.size != 2 * (settings["image_size"],):
        raise ValueError(f"the image has {image.width} x {image.height} pixels, and the model takes "
                         f"{settings['image_size']} x {settings['image_size']}: resize it")
    if not 0 <= layer < settings["num_layers"]:
        raise ValueError(f"there is no layer {layer}: the model has {settings['num_layers']}, counted from 0")
    model = copy.deepcopy(model).cpu().double().eval()
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).double() / 127.5 - 1
    z = model.embed(pixels[None])
    *before, block = cast(list[TransformerEncoderBlock], list(model.blocks)[: layer + 1])
    for earlier in before:
        z = earlier(z)
    num_heads, head_size = settings["num_heads"], block.msa.head_size
    tenths = (10 * block.msa.qkv(block.norm1(z))[0]).round().int()  # [tokens, 3 * hidden_size]
    stored = tenths.unflatten(-1, (3, num_heads, head_size)).permute(2, 1, 0, 3)  # [heads, 3, tokens, head_size]

    columns, head = model.grid[1], min(1, num_heads - 1)
    asking = 1 + columns * (columns // 2) + columns // 2
    q, k, v = stored[head].numpy().astype(np.int64)
    dots = k @ q[asking] / 100
    scaled = dots / math.sqrt(head_size)  # Equation 6
    powers = np.exp(scaled)
    shares = powers / powers.sum()
    order = sorted(range(len(shares)), key=lambda j: (-shares[j], j))
    key = order[0]
    parts = [shares[j] * v[j] / 10 for j in order[:3]]
    rest = shares[order[3:]] @ v[order[3:]] / 10
    output = shares @ v / 10  # Equation 7

    def name(token: int) -> str:
        return place(token - 1, columns) if token else "the class token"

    def vector(numbers: np.ndarray, digits: int, limit: float = 4) -> str:
        return cells(numbers, limit, [fixed(number, digits) for number in numbers], head_size)

    percent = [fixed(100 * share, 0) for share in shares]
    left = shares[order[3:]].sum()
    labels = [f"{percent[j]} % of v of {name(j)}" for j in order[:3]]
    labels.append(f"{fixed(100 * left, 0)} %: the other {len(order) - 3}")
    sums = "".join(f'<span data-label="">{label}</span>'
                   f'<table class="vector" data-vector="">{vector(numbers, 2, 1.5)}</table>'
                   for label, numbers in zip(labels, [*parts, rest]))
    sums += f'<span class="sum">their sum</span><table class="vector" data-vector="">{vector(output, 2, 1.5)}</table>'
    text = (f"Head {head}: {name(asking)} takes most from {name(key)}, {percent[key]} %, and "
            f"{fixed(100 * (1 - left), 0)} % from the three of {len(order)} tokens with the largest weights.")
    empty = [""] * columns**2
    return figure("attention", dict(qkv=stored.tolist(), head=head, asking=asking, key=key), dict(
        layer=layer, head_size=head_size, heads=buttons(range(num_heads), head), class_asks="false",
        alt="the image that the model sees", source=source(image),
        query=cells(np.zeros(columns**2), 1, empty, columns, asking - 1),
        scores=cells(scaled[1:], np.abs(scaled).max(), [fixed(score, 1) for score in scaled[1:]], columns, key - 1),
        weights=cells(shares[1:], shares.max(), percent[1:], columns, key - 1),
        class_score=fixed(scaled[0], 1), class_weight=f"{percent[0]} %", class_key=str(key == 0).lower(),
        pair=f"{name(asking)} asks {name(key)}", q=vector(q[asking] / 10, 1), k=vector(k[key] / 10, 1),
        products=vector(q[asking] * k[key] / 100, 2), sums=sums,
        score=f"The products sum to q · k = {fixed(dots[key], 2)}, and {fixed(dots[key], 2)} / √{head_size} = "
              f"{fixed(scaled[key], 2)}.",
        weight=f"e^{fixed(scaled[key], 2)} = {fixed(powers[key], 2)}; divided by the sum over all {len(order)} tokens, "
               f"{fixed(powers.sum(), 2)}, it is {fixed(100 * shares[key], 1)} %."), text)
