"""What helps a ViT to learn from 225 photos in three minutes: the recipe, and what was tried beside it.

python -m benchmarks.few_photos --data FOLDER --run runs/few_photos [--variants NAME ...] [--triples 0 1 2 3]
python -m benchmarks.few_photos --run runs/few_photos --write   ->  going_modular/experiments/measured/few_photos.json

FOLDER holds train/CLASS/ and test/CLASS/ of many classes, such as Food-101 without the three dishes. A triple is three
of them (benchmarks.recipe_search), 75 photos of each to train and up to 400 others to score. The recipe was chosen on
triples 0 to 3, and its accuracy is told on 4 to 8, which chose nothing. All variants show each photo that is not held
out as often. Runs are kept in --run, one file each: the command can be stopped and given again, and several may run at
once.
--cost, with nothing beside it, measures how long a variant takes beside the recipe; --write writes the log.
"""
import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms import v2

from benchmarks.common import build_model, log_of, write_measured
from benchmarks.main_job import summary
from benchmarks.recipe_search import lay_out
from going_modular import config, data_setup, train
from going_modular.experiments.cnn import cnn, matching_width
from going_modular.paper import masked
from going_modular.paper.positions import sinusoidal_positions
from going_modular.trainer import Trainer
from going_modular.vit import MultiheadSelfAttention, ViT, count_parameters
from going_modular.weights import resize_positions

CHOSEN_ON, TOLD_ON = (0, 1, 2, 3), (4, 5, 6, 7, 8)
SETTINGS = "--model Mini --image-size 64 --epochs 3 --repeats 67".split()


@dataclass(frozen=True)
class Variant:
    """Something that was tried in place of the recipe, or with it.

    options: of going_modular.train. model: changes the model before its optimizer is built. trainer: changes the
    trainer before it begins.
    """

    what: str
    options: str = ""
    model: Callable[[ViT], object] | None = None
    trainer: Callable[[Trainer], object] | None = None


def factors(noise: float, identity: float, size: int, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two matrices [rank, size], of which A^T B comes as near as their rank allows to a share of noise and a share of
    the identity."""
    u, s, v = torch.linalg.svd(noise * torch.randn(size, size) / size**0.5 + identity * torch.eye(size))
    return (u * s.sqrt()).T[:rank], (v * s.sqrt()[:, None])[:rank]


@torch.no_grad()
def mimetic(model: ViT) -> None:
    """Trockman and Kolter (2023): W_q W_k^T begins near the identity, and W_v W_out near its negative."""
    for layer in (module for module in model.modules() if isinstance(module, MultiheadSelfAttention)):
        size, head = layer.out.in_features, layer.head_size
        queries, keys, values = layer.qkv.weight.chunk(3)
        for start in range(0, size, head):
            queries[start : start + head], keys[start : start + head] = factors(0.7, 0.7, size, head)
        out, value = factors(0.4, -0.4, size, size)
        values.copy_(value)
        layer.out.weight.copy_(out.T)


@torch.no_grad()
def waves(model: ViT, amplitude: float = 0.5) -> None:
    """Positions begin as sine and cosine of the row, and of the column."""
    rows, columns = (sinusoidal_positions(count, model.settings["hidden_size"] // 2) for count in model.grid)
    both = torch.cat([rows.repeat_interleave(len(columns), 0), columns.repeat(len(rows), 1)], dim=1)
    model.position_embedding[0, -len(both):] = amplitude * both


@torch.no_grad()
def impulse(model: ViT) -> None:
    """Each head begins with a look at one place beside each patch, as a convolution does, and the heads of the model
    at all nine in turn (Cordonnier et al., 2020, and the impulse initialisation of arXiv 2505.19985): the scores are
    minus half the squared distance to that place, but for what the softmax does not see, read from positions that
    begin as sines and cosines."""
    size, (rows, columns) = model.settings["hidden_size"], model.grid
    waves(model, amplitude=1.0)
    read = torch.linalg.pinv(F.layer_norm(model.position_embedding[0, 1:], [size]), rtol=0.1)  # [D, N]
    places = torch.cartesian_prod(*(torch.arange(count) - (count - 1) / 2 for count in (rows, columns)))
    steps = torch.cartesian_prod(torch.arange(-1, 2), torch.arange(-1, 2)).float()
    layers = [module for module in model.modules() if isinstance(module, MultiheadSelfAttention)]
    for number, layer in enumerate(layers):
        queries, keys, _ = layer.qkv.weight.chunk(3)
        for head, start in enumerate(range(0, size, layer.head_size)):
            step = steps[(number * (size // layer.head_size) + head) % len(steps)]
            scores = (places + step) @ places.T - places.square().sum(-1) / 2
            u, s, v = torch.linalg.svd(read @ scores @ read.T * layer.head_size**0.5)
            rank = slice(start, start + layer.head_size)
            queries[rank], keys[rank] = (u * s.sqrt()).T[: layer.head_size], (v * s.sqrt()[:, None])[: layer.head_size]


class ConvolutionalStem(nn.Module):
    """Two convolutions of stride 2 before patches of a quarter of the size: the hybrid of Section 3.1, in small."""

    def __init__(self, model: ViT, width: int = 24):
        super().__init__()
        size, patch = model.settings["hidden_size"], model.settings["patch_size"] // 4
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
                                  nn.Conv2d(width, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.projection = nn.Conv2d(width, size, patch, patch)

    def forward(self, images: torch.Tensor, intermediates: dict | None = None) -> torch.Tensor:
        return self.projection(self.stem(images)).flatten(2).transpose(1, 2)


class RelativePositions(nn.Module):
    """An extra loss: from the outputs of two patches, tell how far apart their places are (Liu et al., 2021).

    It stands before the model in the trainer, and adds its gradient to that of the logits.
    """

    def __init__(self, model: ViT, pairs: int = 32, weight: float = 0.1):
        super().__init__()
        self.model, self.pairs, self.weight = model, pairs, weight
        self.places = torch.cartesian_prod(*(torch.arange(count) / count for count in model.grid))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen: dict[str, torch.Tensor] = {}
        logits = self.model(images, intermediates=seen)
        patches = seen["encoder"][:, -len(self.places):]
        a, b = torch.randint(len(self.places), (2, self.pairs))
        told = self.model.relative(torch.cat([patches[:, a], patches[:, b]], dim=-1))
        loss = F.l1_loss(told, (self.places[a] - self.places[b]).expand_as(told))
        return AddedLoss.apply(logits, self.weight * loss)


class AddedLoss(torch.autograd.Function):
    """Logits, unchanged; when they go back, a loss goes back with them."""

    @staticmethod
    def forward(context: object, logits: torch.Tensor, loss: torch.Tensor) -> torch.Tensor:
        return logits.view_as(logits)

    @staticmethod
    def backward(context: object, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return gradient, torch.ones(())


def with_relative_positions(model: ViT) -> None:
    """The small MLP of RelativePositions, which is trained with the model."""
    size = model.settings["hidden_size"]
    model.relative = nn.Sequential(nn.Linear(2 * size, size), nn.ReLU(), nn.Linear(size, 2))


def cutmix_too(trainer: Trainer) -> None:
    """Half of the batches are cut together in place of mixed."""
    mixup, cutmix = trainer.mixup, v2.CutMix(num_classes=len(trainer.description["class_names"]))
    trainer.mixup = lambda images, labels: (cutmix if torch.rand(()) < 0.5 else mixup)(images, labels)


def taught(trainer: Trainer) -> None:
    """A CNN of a third of the parameters is trained first, for two thirds of the epochs, and half of each label is then
    what it answers: soft distillation as in DeiT (Touvron et al., 2021), without a distillation token."""
    class_names, recipe = trainer.description["class_names"], trainer.recipe
    torch.manual_seed(recipe.seed)
    teacher = cnn(len(class_names), matching_width(len(class_names), count_parameters(trainer.model) // 3))
    its_recipe = replace(recipe, epochs=max(1, round(2 / 3 * recipe.epochs)), muon=0.0)
    Trainer(teacher, trainer.loaders["train"], its_recipe, trainer.device, class_names=class_names, quiet=True).fit()
    mixup, teacher = trainer.mixup, teacher.eval()

    def half_answered(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        images, labels = mixup(images, labels)
        with torch.no_grad():
            return images, (labels + teacher(images).softmax(dim=-1)) / 2

    trainer.mixup = half_answered


def coarse_first(**sizes: int) -> Callable[[Trainer], None]:
    """A model of these sizes, which sees fewer patches, is trained first, on twice as many views, and its weights are
    carried over."""
    def train_first(trainer: Trainer) -> None:
        model, recipe = trainer.model, trainer.recipe
        torch.manual_seed(recipe.seed)
        coarse = ViT(**model.settings | sizes)
        first = Trainer(coarse, trainer.loaders["train"], replace(recipe, epochs=2 * recipe.epochs), trainer.device,
                        class_names=trainer.description["class_names"], quiet=True)
        first.trained = nn.Sequential(v2.Resize(coarse.settings["image_size"]), coarse)
        first.fit()
        carry_over(coarse, model)

    return train_first


def carry_over(coarse: ViT, fine: ViT) -> None:
    """Give a model of more patches the weights of one of fewer: positions are interpolated, and so are the kernels of
    the patch embedding, of which the answer to an even colour stays as it is."""
    weights, old, new = coarse.state_dict(), coarse.settings["patch_size"], fine.settings["patch_size"]
    weights["position_embedding"] = resize_positions(weights["position_embedding"], fine.grid, old_grid=coarse.grid)
    kernels = weights["patch_embedding.projection.weight"].unflatten(1, (-1, old, old))
    kernels = F.interpolate(kernels, (new, new), mode="area") * (old / new) ** 2
    fine.load_state_dict(weights | {"patch_embedding.projection.weight": kernels.flatten(1)})


def masked_first(trainer: Trainer) -> None:
    """Masked patch prediction comes first, on a third as many views of the same photos."""
    task = masked.MaskedPatchPrediction(trainer.model)
    trainer.batches.set_epoch(1000, 0)
    masked.train(task, trainer.loaders["train"], epochs=1, lr=2e-3, device=trainer.device)


VARIANTS = {
    "recipe": Variant("the recipe, `--preset few`"),
    "AdamW": Variant("AdamW for all weights", "--muon 0"),
    "decay 0.1": Variant("a fifth of the weight decay", "--weight-decay 0.1"),
    "decay 1": Variant("twice the weight decay", "--weight-decay 1"),
    "all photos": Variant("one photo of each class held out in place of a tenth", "--hold-out 0.01"),
    "mimetic": Variant("mimetic initialisation (Trockman and Kolter, 2023)", model=mimetic),
    "impulse": Variant("heads that begin as a convolution (impulse initialisation)", model=impulse),
    "waves": Variant("position embeddings that begin as sine and cosine", model=waves),
    "EMA": Variant("running average of the weights", "--ema 0.99"),
    "CutMix": Variant("CutMix in half of the batches", trainer=cutmix_too),
    "taught": Variant("a small CNN as teacher, trained first", trainer=taught),
    "relative": Variant("relative positions as an extra loss (Liu et al., 2021)", model=with_relative_positions,
                        trainer=lambda trainer: setattr(trainer, "trained", RelativePositions(trainer.model))),
    "masked": Variant("masked patch prediction on the same photos first", trainer=masked_first),
    "patches of 16": Variant("patches of 16 pixels in place of 8", "--patch-size 16"),
    "patches of 16 first": Variant("patches of 16 pixels for two thirds of the views, then of 8", "--epochs 1",
                                   trainer=coarse_first(patch_size=16)),
    "32 pixels first": Variant("images of 32 pixels for two thirds of the views, then of 64", "--epochs 1",
                               trainer=coarse_first(image_size=32)),
    "stem": Variant("a convolutional stem before the patches (the hybrid of Section 3.1)",
                    model=lambda model: setattr(model, "patch_embedding", ConvolutionalStem(model))),
    "few drawings": Variant("pre-trained on 2,400 drawings of food, then AdamW", "--weights drawn_food --lr 0.001"),
    "few drawings, Muon": Variant("pre-trained on 2,400 drawings of food, then the recipe",
                                  "--weights drawn_food --muon 0.02 --lr 0.002"),
    "many drawings": Variant("pre-trained on 60,000 drawings and fractals, then AdamW",
                             "--weights drawings --lr 0.001"),
    "many drawings, Muon": Variant("pre-trained on 60,000 drawings and fractals, then the recipe",
                                   "--weights drawings --muon 0.02 --lr 0.002"),
}


def build(variant: Variant, folder: Path, shrunk: int = 1) -> Trainer:
    """A trainer of this variant for the photos in folder/{train,test}, on so many times fewer images."""
    data = data_setup.load(folder)
    given = config.parse([*SETTINGS, *variant.options.split(), "--seed", "0"])
    given["repeats"] //= shrunk
    if "weights" in given:
        del given["model"]
    model, options = build_model(given, data)
    if variant.model:
        variant.model(model)
    trainer = train.build_trainer(model, data, options, torch.device("cpu"))
    if variant.trainer:
        variant.trainer(trainer)
    return trainer


def run(name: str, source: Path, triple: int) -> dict:
    """Train a variant on a triple; what its test says."""
    with tempfile.TemporaryDirectory() as folder:
        classes = lay_out(source, triple, Path(folder))
        start = time.perf_counter()
        row = build(VARIANTS[name], Path(folder)).fit()[-1]
    return {"test_accuracy": round(row["test_acc"], 4), "test_loss": round(row["test_loss"], 4),
            "classes": classes, "seconds": round(time.perf_counter() - start, 1)}


def seconds_of_a_run(name: str, folder: Path) -> float:
    """Seconds of training, without tests, on a twentieth of the images."""
    start = time.perf_counter()
    trainer = build(VARIANTS[name], folder, shrunk=20)
    trainer.loaders = {"train": trainer.loaders["train"]}
    trainer.fit()
    return time.perf_counter() - start


def gain(runs: dict[int, dict], recipe: dict[int, dict]) -> dict:
    """The gain in accuracy over the recipe on the same triples: its mean and standard error."""
    gains = [run["test_accuracy"] - recipe[triple]["test_accuracy"] for triple, run in runs.items()]
    return {"mean": round(statistics.mean(gains), 4),
            "standard_error": round(statistics.stdev(gains) / math.sqrt(len(gains)), 4)}


def results(folder: Path) -> dict:
    """What the log says of the runs in a folder."""
    def of(name: str, triples: Sequence[int]) -> dict[int, dict]:
        return {triple: json.loads(file.read_text()) for triple in triples
                if (file := folder / f"{name}_{triple}.json").exists()}

    log = {}
    for title, triples in (("chosen_on", CHOSEN_ON), ("told_on", TOLD_ON)):
        recipe, rows = of("recipe", triples), {}
        for name, variant in VARIANTS.items():
            runs = of(name, triples)
            if len(runs) < len(triples):
                continue
            rows[name] = {"what": variant.what, "options": variant.options} | {
                value: summary([run[value] for run in runs.values()])
                for value in ("test_accuracy", "test_loss", "seconds")}
            if name != "recipe" and recipe:
                rows[name]["gain"] = gain(runs, recipe)
            if (file := folder / f"{name}_cost.json").exists():
                rows[name]["cost"] = json.loads(file.read_text())
        log[title] = {"triples": [run["classes"] for run in recipe.values()], "variants": rows}
    return log


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--run", type=Path, default=Path("runs/few_photos"), help="folder of the runs")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=[*VARIANTS], metavar="NAME")
    parser.add_argument("--triples", type=int, nargs="+", default=CHOSEN_ON)
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    if bool(args.data) == args.write or args.write and args.cost:
        parser.error("give --data, with --cost or without, or --write alone")
    args.run.mkdir(parents=True, exist_ok=True)
    if args.write:
        write_measured("few_photos", log_of(results(args.run)))
    elif args.cost:
        with tempfile.TemporaryDirectory() as folder:
            lay_out(args.data, 0, Path(folder))
            seconds = {name: [] for name in ("recipe", *args.variants)}
            for _ in range(7):  # in turn, so that a slow minute of the machine meets all
                for name, times in seconds.items():
                    times.append(seconds_of_a_run(name, Path(folder)))
        for name, times in seconds.items():
            ratio = min(times) / min(seconds["recipe"])
            (args.run / f"{name}_cost.json").write_text(json.dumps(round(ratio, 2)))
            print(f"{name}: {ratio:.2f} of the time of the recipe", flush=True)
    else:
        for name in args.variants:
            for triple in args.triples:
                file = args.run / f"{name}_{triple}.json"
                if not file.exists():
                    file.write_text(json.dumps(run(name, args.data, triple)))
                    print(f"{name}, triple {triple}: {file.read_text()}", flush=True)


if __name__ == "__main__":
    main()
