"""Every equation, table and figure of the paper, and what of it is shown here: python -m benchmarks.scorecard

`table()` is the table of site/pages/scorecard.md, which `python -m benchmarks.readme` writes. Run as a script, this
draws Figures 5, 10 and 14 in small, from runs that are there already and the models that come with the package:
images/compute.png, images/positions.png, images/rollouts.png.
"""
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from benchmarks.common import log, multiply_adds
from going_modular import drawn, plots, utils
from going_modular.experiments import architecture, data_scale, recipe_parts
from going_modular.paper import inspection
from going_modular.vit import ViT, count_macs

ROOT = Path(__file__).parent.parent
NUMBERED = [*(f"Equation {number}" for number in range(1, 9)), *(f"Table {number}" for number in range(1, 10)),
            *(f"Figure {number}" for number in range(1, 15))]
HOW = ("exactly", "in small", "not")
# The models that come with the package, and what each was trained on.
TRAINED = {"seven_dishes": "drawings of seven dishes", "drawn_food": "drawings of three dishes",
           "drawings": "drawings and fractals", "food98": "photos of 98 dishes", "cifar100": "CIFAR-100"}


@dataclass(frozen=True)
class Row:
    """A numbered part of the paper.

    where: stems of notebooks; a row that is "not" shown may have none. quoted: those numbers of `ours` that come from
    the notebooks in `where`, and not from a log.
    """

    part: str
    what: str
    how: str
    ours: str
    paper: str
    where: tuple[str, ...] = ()
    quoted: tuple[str, ...] = ()


def at_best_rate(rows: Iterable[dict]) -> float:
    """The mean test accuracy of the row with the highest mean training accuracy: the test set chooses no rate."""
    return statistics.mean(max(rows, key=lambda row: statistics.mean(row["train_acc"]))["test_acc"])


def means(measure: str, kind: str, samples: int) -> dict[int, float]:
    """Pictures in pre-training -> mean over the seeds of an accuracy of notebook 12: "probe" or "fine_tuned"."""
    rows = [row for row in data_scale.measured()["rows"] if (row["model"], row["samples"]) == (kind, samples)]
    return {pictures: statistics.mean(row[measure] for row in rows if row["pictures"] == pictures)
            for pictures in sorted({row["pictures"] for row in rows})}


def compute_on_drawings() -> dict[str, dict[float, float]]:
    """For the ViT and the CNN of notebook 12: multiply-adds of pre-training -> accuracy after fine-tuning, of each
    length of pre-training at the largest number of pictures that it was done with."""
    curves = {}
    for kind in ("ViT", "CNN"):
        model = data_scale.new_model(kind, len(data_scale.DISHES), seed=0)
        macs = multiply_adds(model, data_scale.VIT_SIZES["image_size"])
        lengths = {samples: means("fine_tuned", kind, samples) for samples in (0, 3_500, 35_000)}
        if kind == "ViT":
            lengths[210_000] = means("fine_tuned", "seven_dishes", 210_000)
        # The backward pass costs twice the forward pass.
        curves[kind] = {3 * macs * samples: values[max(values)] for samples, values in lengths.items()}
    return curves


def compute_on_photos() -> dict[float, tuple[float, float]]:
    """Multiply-adds of pre-training on photos -> mean accuracy on three new dishes, and the standard error of the gain
    over no pre-training (0 where there was none)."""
    values = log("pretraining")
    macs = count_macs(ViT.from_variant("Mini/8", num_classes=values["classes"], image_size=64))
    points = {0.0: (values["scratch"]["test_accuracy"]["mean"], 0.0)}
    for row in values["pretrained"].values():
        points[3 * macs * row["images"]] = row["triples"]["test_accuracy"]["mean"], row["gain"]["standard_error"]
    return points


def draw_compute() -> plt.Figure:
    """Accuracy after transfer against the multiply-adds of pre-training (Figure 5), on photos and on drawings."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    photos = compute_on_photos()
    costs, (accuracies, errors) = [cost / 1e12 for cost in photos], zip(*photos.values())
    axes[0].errorbar(costs, accuracies, errors, fmt="o-", color=plots.BLUE, capsize=3, linewidth=2)
    axes[0].set_title("ViT of 0.5M parameters, three dishes on photos", fontsize=11)
    for (name, curve), color in zip(compute_on_drawings().items(), (plots.BLUE, plots.ORANGE)):
        axes[1].plot([cost / 1e12 for cost in curve], list(curve.values()), "o-", color=color, linewidth=2, label=name)
    axes[1].set_title("ViT and CNN, three dishes in drawings", fontsize=11)
    axes[1].legend(frameon=False)
    for axis in axes:
        # In proportion up to the first threshold, so that no pre-training has a place; logarithmic from there on.
        axis.set_xscale("symlog", linthresh=0.1 if axis is axes[1] else 3)
        axis.set_xlim(left=0)
        axis.set(xlabel="trillions of multiply-adds of pre-training", ylabel="test accuracy")
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def position_similarities() -> dict[str, torch.Tensor]:
    """The similarity of positions [rows, columns, rows, columns] in each model that comes with the package."""
    return {name: inspection.position_similarity(utils.load_model(name)[0]) for name in TRAINED}


def near_and_far(similarity: torch.Tensor) -> tuple[float, float]:
    """The mean similarity of the positions of neighbours, and of patches half an image apart or more."""
    rows, columns = similarity.shape[:2]
    distances, values = inspection.patch_distances((rows, columns), 1), similarity.flatten(2).flatten(0, 1)
    return values[distances == 1].mean().item(), values[distances >= rows / 2].mean().item()


def draw_positions() -> plt.Figure:
    """For each model a tile for each patch: how similar its position is to those of all patches (Figure 10)."""
    figure, axes = plt.subplots(1, len(TRAINED), figsize=(10, 2.5), layout="constrained")
    for axis, (name, similarity) in zip(axes, position_similarities().items(), strict=True):
        rows, columns = similarity.shape[:2]
        framed = torch.full((rows, rows + 1, columns, columns + 1), torch.nan)  # a white line after each tile
        framed[:, :rows, :, :columns] = similarity.permute(0, 2, 1, 3)
        picture = axis.imshow(framed.reshape(rows * (rows + 1), columns * (columns + 1)), vmin=-1, vmax=1,
                              interpolation="nearest")
        axis.set_title(f"{name}\n{TRAINED[name]}", fontsize=9)
        axis.axis("off")
    figure.colorbar(picture, ax=axes, label="cosine similarity", shrink=0.7)
    return figure


def draw_rollouts(rows: int = 3, columns: int = 7) -> plt.Figure:
    """Drawings, and beneath each where the class token draws from (Figure 14)."""
    (model, info), rng = utils.load_model("seven_dishes"), np.random.default_rng(0)
    images = torch.stack([info.transform(drawn.draw_food(info.class_names[index % columns], rng))
                          for index in range(rows * columns)])
    seen = inspection.overlay(images, inspection.rollout_maps(model, images))
    figure, axes = plt.subplots(2 * rows, columns, figsize=(7, 6.2), layout="constrained")
    for index, axis in enumerate(axes.flat):
        line, column = divmod(index, columns)
        drawing = line // 2 * columns + column
        axis.imshow(seen[drawing] if line % 2 else images[drawing].permute(1, 2, 0) / 2 + 0.5)
        axis.axis("off")
    for name, axis in zip(info.class_names, axes[0]):
        axis.set_title(name.replace("_", " "), fontsize=9)
    return figure


def equations() -> list[Row]:
    logits = log("parity")["largest_relative_difference"]["B/16"]["torchvision"]["float32"]["logits"]
    return [
        Row("Equation 1", "an image becomes tokens with positions", "exactly",
            "cut and multiplied = `Conv2d` to 1e-5; E has 590,592 numbers with its bias in B/16",
            "E is P² C x D", ("02_patch_embedding", "03_class_token_and_position"), ("590,592", "1e-5")),
        Row("Equation 2", "attention, with LayerNorm and skip connection", "exactly",
            "outputs and gradients of `nn.TransformerEncoderLayer`; a block of Base has 7,087,872 parameters",
            "", ("06_transformer_encoder",), ("7,087,872",)),
        Row("Equation 3", "the MLP, with LayerNorm and skip connection", "exactly",
            "the same; 4,722,432 of these parameters", "M = 4 D", ("05_mlp_block", "06_transformer_encoder"),
            ("4,722,432",)),
        Row("Equation 4", "the class token is read", "exactly",
            f"logits of B/16 differ from torchvision's by {logits:.0e} of their largest", "", ("07_vit_base",)),
        Row("Equation 5", "queries, keys and values", "exactly", "one fused layer = three layers, to 1e-6",
            "", ("04_multihead_self_attention",), ("1e-6",)),
        Row("Equation 6", "attention weights", "exactly", "those of `nn.MultiheadAttention`, to 1e-6", "",
            ("04_multihead_self_attention",), ("1e-6",)),
        Row("Equation 7", "the weighted average", "exactly", "`scaled_dot_product_attention`, to 1e-6", "",
            ("04_multihead_self_attention",), ("1e-6",)),
        Row("Equation 8", "many heads side by side", "exactly",
            "`nn.MultiheadAttention`, to 1e-5; 2,362,368 parameters with 1 head or 12", "",
            ("04_multihead_self_attention",), ("2,362,368", "1e-5"))]


def table_7() -> Row:
    what, paper = "ResNets pre-trained with Adam and with SGD", "mean with ResNet50: Adam 89.33, SGD 88.79"
    values = {name: ", ".join(f"{kind} {row['test_accuracy']['mean']:.3f}" for kind, row in results.items())
              for name, results in log("table7")["results"].items()}
    # A best rate that no higher or no lower one was tried beside may not be the best there is.
    edges = [f"{kind} in {name}" for name, results in log("table7")["results"].items()
             for kind, row in results.items() if row["lr"] in (min(rates := [*map(float, row["tried"])]), max(rates))]
    edge = f", which lies at the edge of those tried for {' and '.join(edges)}" if edges else ""
    return Row("Table 7", what, "in small",
               f"a small CNN briefly pre-trained on drawings, then fine-tuned: {values['pre-training']}; and, not "
               f"in the table, a ViT fine-tuned with each: {values['fine-tuning']}; three seeds, the best of three "
               f"rates{edge}; in pre-training this is not the paper's order", paper, ("13_train_on_food",))


def tables() -> list[Row]:
    parts = {name: statistics.mean(row["test_acc"])
             for name, row in recipe_parts.prices()["drawn_things"]["without"].items()}
    results = architecture.cached()["drawn_digits"]["results"]
    positions = {kind: at_best_rate(results[study][kind] for study in ("positions", "positions_faster"))
                 for kind in results["positions"]}
    tuned, untuned = means("fine_tuned", "seven_dishes", 210_000), means("fine_tuned", "ViT", 0)
    return [
        Row("Table 1", "sizes of Base, Large and Huge", "exactly",
            "86,389,248, 306,560,000 and 632,404,480 parameters; the second is of L/32, as L/16 has 304M",
            "86M, 307M, 632M", ("07_vit_base",), ("86,389,248", "306,560,000", "632,404,480", "304")),
        Row("Table 2", "ViT-H and ViT-L beside the best of 2020", "not",
            "the images are not public, and one training took years of a core of a TPU",
            "ImageNet 88.55; 2,500 TPUv3-core-days, on JFT-300M"),
        Row("Table 3", "settings of the training", "in small",
            f"the ImageNet row, carried over to small batches and few pictures, each part switched off: accuracy "
            f"{parts['nothing']:.3f} with all, {parts['decoupling']:.3f} with L2 in place of decoupled decay",
            "batches of 4096, 300 epochs, rate 3e-3, weight decay 0.3", ("09_train_on_cifar100",)),
        Row("Table 4", "settings of the fine-tuning", "in small",
            f"optimizer, schedule and clipping exactly, steps and images fewer: accuracy {min(tuned.values()):.3f} "
            f"after pre-training on drawings, {min(untuned.values()):.3f} without",
            "SGD with momentum 0.9, cosine, no weight decay, clipping at 1",
            ("12_pretrain_and_finetune", "13_train_on_food")),
        Row("Table 5", "accuracy by pre-training set, five models at 384 pixels", "not",
            "fine-tuning these models on these sets takes days of a large GPU; published weights can be loaded",
            "B/16 on CIFAR-100: 87.13 from ImageNet, 91.87 from JFT-300M"),
        Row("Table 6", "accuracy and cost of each pre-training", "exactly",
            "the costs of the six ViTs alone, within 2.5 % of the paper's; its accuracies need JFT-300M",
            "55 to 4,262 exaFLOPs", ("07_vit_base",), ("2.5",)),
        table_7(),
        Row("Table 8", "kinds of positions", "in small",
            "drawn digits, each kind at the better of two rates: "
            + ", ".join(f"{kind} {value:.3f}" for kind, value in positions.items()),
            "none 0.614, 1-D 0.642, 2-D 0.640, relative 0.640", ("11_ablations",)),
        table_9()]


def table_9() -> Row:
    rows = log("table9")["rows"].values()
    ours = ", ".join("{} {:.3f} and {:.3f}".format(row["what"], *(way["mean"] for way in row["test_accuracy"].values()))
                     for row in rows)
    return Row("Table 9", "the 19 tasks of VTAB-1k one by one", "in small",
               f"{len(rows)} other tasks of 1,000 training images, a tenth of them held out, from scratch and "
               f"from `food98`: {ours}",
               "mean of ViT-H/14 over its 19 tasks 77.6", ("12_pretrain_and_finetune",))


def figures() -> list[Row]:
    results = architecture.cached()["drawn_digits"]["results"]
    scaling, large = ({name: statistics.mean(row["test_acc"]) for name, row in results[study].items()}
                      for study in ("scaling", "scaling_large_start"))
    pooling = {kind: at_best_rate(row for name, row in results["pooling"].items() if name.startswith(kind))
               for kind in ("token", "mean")}
    long = {(measure, kind): means(measure, kind, 35_000) for measure in ("probe", "fine_tuned")
            for kind in ("ViT", "CNN")}
    start = {key: means(*key, 0)[0] for key in long}
    last = {key: values[max(values)] for key, values in long.items()}
    pictures = max(long["probe", "ViT"])
    growth = log("growth_cpu")
    tokens, width = growth["exponents"]["tokens"], growth["base"]["width"]
    photos = list(compute_on_photos().items())
    near, far = zip(*map(near_and_far, position_similarities().values()))

    def gain(measure: str) -> str:
        return ", ".join(f"{kind} {start[measure, kind]:.3f} without pre-training and {last[measure, kind]:.3f} from "
                         f"{pictures:,} drawings" for kind in ("ViT", "CNN"))

    return [
        Row("Figure 1", "the whole model", "exactly", "drawn, with the shape at each layer: 197 tokens of 768 numbers",
            "", ("01_overview",), ("197", "768")),
        Row("Figure 2", "VTAB in three groups", "not",
            "most of its 19 data sets are not in the package's reach", "ViT-H/14 ahead in two of three"),
        Row("Figure 3", "fine-tuned accuracy by size of pre-training set", "in small",
            f"{gain('fine_tuned')}: the left end alone, the lines do not cross",
            "CNNs ahead from ImageNet, ViTs from JFT-300M", ("12_pretrain_and_finetune",)),
        Row("Figure 4", "few-shot probe by size of pre-training set", "in small",
            f"{gain('probe')}: the left end alone, the lines do not cross",
            "ResNets ahead at 9 million images, ViTs from 90 million on", ("12_pretrain_and_finetune",)),
        Row("Figure 5", "accuracy against the compute of pre-training", "in small",
            f"[picture below](#figure-5-in-small): on photos {photos[0][1][0]:.3f} without and {photos[-1][1][0]:.3f} "
            f"after {photos[-1][0] / 1e12:.0f} trillion multiply-adds",
            "ViTs need 2 to 4 times less compute than ResNets", ("12_pretrain_and_finetune",)),
        Row("Figure 6", "where the class token draws from", "in small",
            "the method exactly (attention rollout, with and without skip connections), on small models",
            "ViT-L/16 on photos", ("10_look_inside", "13_train_on_food")),
        Row("Figure 7", "filters, similarity of positions, attention distance", "in small",
            "all three, before and after training, of a model of 4 layers",
            "ViT-L/32 and ViT-L/16: positions show rows and columns, some heads of the first layers are local",
            ("10_look_inside",)),
        Row("Figure 8", "depth, width, MLP and patch size, one at a time", "in small",
            f"base {scaling['base']:.3f}, 8 layers {scaling['num_layers 8']:.3f}, four times the width "
            f"{scaling['hidden_size 128']:.3f}, patches of 14 pixels for 7 {scaling['patch_size 14']:.3f}: "
            "not the paper's order, after short trainings at one rate; with positions that start large "
            f"{large['base']:.3f}, {large['num_layers 8']:.3f}, {large['hidden_size 128']:.3f} and "
            f"{large['patch_size 14']:.3f}",
            "depth and smaller patches pay most, width least", ("11_ablations",)),
        Row("Figure 9", "class token or mean", "in small",
            f"each at its best of four rates: {pooling['token']:.3f} and {pooling['mean']:.3f}",
            "equally good, at rates of their own", ("11_ablations",)),
        Row("Figure 10", "positions of models with other settings", "in small",
            "[picture below](#figure-10-in-small), of five models: cosine similarity of neighbours "
            f"{min(near):.2f} to {max(near):.2f}, of patches half an image apart {min(far):.2f} to {max(far):.2f}",
            "three recipes of ViT-L: the pattern depends on them", ("10_look_inside",)),
        Row("Figure 11", "attention distance by head and layer", "in small",
            "a dot for each head, of a model of 4 layers", "128 images, ViT-L/16 and a hybrid", ("10_look_inside",)),
        Row("Figure 12", "speed and memory by image size", "in small",
            f"on a CPU, {width} wide: time grows with the tokens to the power of {tokens['seconds']:.2f}, memory "
            f"{tokens['kept_bytes']:.2f}; the narrow model of notebook 11 shows the quadratic part",
            "the quadratic cost is hardly seen", ("11_ablations",)),
        Row("Figure 13", "axial attention", "not", "axial attention is not built here",
            "better than plain ViTs, at a higher cost"),
        Row("Figure 14", "more maps of attention", "in small",
            "[a page below](#figure-14-in-small) of 21 drawings, and your own photo in notebook 13",
            "a page of random photos", ("10_look_inside", "13_train_on_food"))]


def rows() -> list[Row]:
    return [*equations(), *tables(), *figures()]


def table() -> str:
    lines = ["| the paper | | here | our numbers | its numbers | notebook |", "|---|---|---|---|---|---|"]
    all_rows = rows()
    for row in all_rows:
        links = ", ".join(f"[{stem[:2]}](../../notebooks/{stem}.ipynb)" for stem in row.where)
        lines.append(f"| {row.part} | {row.what} | **{row.how}** | {row.ours} | {row.paper} | {links} |")
    shown = {how: sum(row.how == how for row in all_rows) for how in HOW}
    return "\n".join(lines) + (
        f"\n\nOf {len(all_rows)} parts, {shown['exactly']} are shown exactly, {shown['in small']} in small, and "
        f"{shown['not']} not.")


if __name__ == "__main__":
    for name, figure in (("compute", draw_compute()), ("positions", draw_positions()), ("rollouts", draw_rollouts())):
        plots.save(figure, ROOT / "images" / f"{name}.png")
