"""What pre-training is worth on small sets of photos: 60 and 150 minutes of it, or drawings alone, against none.

python -m benchmarks.pretraining --data FOLDER --run runs/pretraining [--minutes 60 150]
    ->  benchmarks/results/pretraining.json, images/pretraining.png

FOLDER holds train/CLASS/ and test/CLASS/ of many classes, such as Food-101 without the three dishes. Five triples of
its classes are set aside, others than those that chose the recipe (benchmarks.recipe_search): 75 images of each class
to train, up to 400 to score. On all other classes a ViT is trained by `python -m going_modular.train`, once for each
length; a length counts images, as many as this machine trains on in so many minutes (measured first, when it should do
nothing else, and kept in --run, as are the runs themselves: the command can be stopped and given again). Then the same
command trains on each triple, from scratch, with --weights of each run, and with the weights `drawings` of the package,
on as many images. The learning rate after pre-training is the one that is best on a sixth triple after the shortest
pre-training. With --add, the log's figures, rate and learning rate stay, and what it lacks is added to them.
"""
import argparse
import json
import statistics
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from benchmarks.common import command, log, write_log
from benchmarks.main_job import summary, tell, train_vit
from benchmarks.recipe_search import lay_out
from going_modular import data_setup, plots, train

TRIPLES, OTHER_TRIPLE = (4, 5, 6, 7, 8), 9
PRETRAINING = "--model Mini --image-size 64 --min-scale 0.35 --muon 0.02 --batch-size 128 --hold-out 0.02".split()
SMALL_SET = "--epochs 2 --repeats 50".split()  # tested twice only: a test takes as long as 3,000 images of training
RATES = ("0.0005", "0.001", "0.002")


def lay_out_others(source: Path, without: set[str], target: Path) -> None:
    """Link the class folders of source/{train,test}/, except those of some classes, to target/."""
    for part in ("train", "test"):
        (target / part).mkdir(parents=True)
        for folder in (source / part).iterdir():
            if folder.name not in without:
                (target / part / folder.name).symlink_to(folder.resolve())


def pretrain(data: Path, run: Path, epochs: int) -> dict:
    """What results.json says of the run in this folder; it is made, or gone on with, where it is not finished."""
    if not (run / "results.json").is_file():
        options = ["--data", str(data), *PRETRAINING, "--epochs", str(epochs), "--output", str(run)]
        if train.main([*options, "--resume"] if (run / "settings.json").is_file() else options):
            raise SystemExit(2)
    return json.loads((run / "results.json").read_text())


def rate_of(data: Path, run: Path) -> dict[str, float]:
    """Training images a second by the settings of the pre-training, evaluation included, and on how many threads of
    the CPU; measured once."""
    file = run / "rate.json"
    if not file.exists():
        with tempfile.TemporaryDirectory() as folder:
            for part, count in (("train", 40), ("test", 5)):  # of each class
                for classes in (data / part).iterdir():
                    (Path(folder) / "data" / part / classes.name).mkdir(parents=True)
                    for image in sorted(classes.iterdir())[:count]:
                        (Path(folder) / "data" / part / classes.name / image.name).symlink_to(image.resolve())
            results = pretrain(Path(folder) / "data", Path(folder) / "run", 3)
        run.mkdir(parents=True, exist_ok=True)
        seconds = results["train_seconds"]
        file.write_text(json.dumps({"images_a_second": results["train_images"] * 0.98 * 3 / seconds,
                                    "threads": torch.get_num_threads()}))
    return json.loads(file.read_text())


def draw(scratch: dict, drawn: dict, pretrained: dict[int, dict]) -> plt.Figure:
    """Accuracy on the triples against the kind of pre-training: each triple in grey, and their mean."""
    stages = {"none": scratch, "drawings\nalone": drawn["triples"]} | {
        f"photos,\n{minutes} minutes": values["triples"] for minutes, values in pretrained.items()}
    accuracies = [values["test_accuracy"] for values in stages.values()]
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for number, each in enumerate(zip(*(values["each"] for values in accuracies), strict=True)):
        axis.plot(list(stages), each, "o-", color=plots.GREY, alpha=0.6, markersize=4,
                  label=None if number else "each triple of classes")
    axis.plot(list(stages), [values["mean"] for values in accuracies], "o-", color=plots.BLUE, linewidth=3,
              label="mean")
    axis.axhline(1 / 3, color="black", linestyle=":", label="always one class")
    axis.set(xlabel="pre-training", ylabel="test accuracy on 3 new classes")
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, default=Path("runs/pretraining"), help="folder of the runs")
    parser.add_argument("--minutes", type=int, nargs="*", default=[60, 150])
    parser.add_argument("--add", action="store_true", help="keep what the log has")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    if not (args.minutes or args.add):
        parser.error("--minutes is empty: only --add has a learning rate without them")
    of_all = ["--model", "Mini", "--image-size", "64"]

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        classes = {triple: lay_out(args.data, triple, folder / str(triple)) for triple in (*TRIPLES, OTHER_TRIPLE)}
        lay_out_others(args.data, {name for names in classes.values() for name in names}, folder / "others")
        others = data_setup.load(folder / "others")
        train_images = len(others.train)
        kept = log("pretraining") if args.add else {}
        rate = kept.get("rate") or rate_of(folder / "others", args.run)
        print(f"{train_images} images to pre-train on, {rate['images_a_second']:.0f} a second")

        def on_triples(name: str, options: list[str]) -> dict:
            runs = []
            for triple in TRIPLES:
                runs.append(train_vit(str(folder / str(triple)), 0, args.device, [*SMALL_SET, *options]))
                tell(name, triple, runs[-1])
            return {"test_accuracy": summary([run["test_accuracy"] for run in runs]),
                    "test_loss": summary([run["test_loss"] for run in runs]),
                    "settings": {name: value for name, value in runs[0]["settings"].items() if name != "data"}}

        if args.add:
            scratch, lr, tried = kept["scratch"], kept["lr"], kept["accuracy_on_the_sixth_triple"]
            pretrained = {int(minutes): values for minutes, values in kept["pretrained"].items()}
            drawn = kept.get("drawings")
        else:
            scratch, pretrained, drawn, lr = on_triples("from scratch", of_all), {}, None, None
        for minutes in args.minutes:
            if minutes in pretrained:
                continue
            run = args.run / f"{minutes}_minutes"
            epochs = max(1, round(minutes * 60 * rate["images_a_second"] / train_images / 0.98))
            results = pretrain(folder / "others", run, epochs)
            if lr is None:
                tried = {lr: train_vit(str(folder / str(OTHER_TRIPLE)), 0, args.device, [
                    *SMALL_SET, "--weights", str(run), "--lr", lr])["test_accuracy"] for lr in RATES}
                lr = max(tried, key=tried.get)
                print(f"learning rates after pre-training: {tried}")
            pretrained[minutes] = {
                "images": round(results["epochs"] * train_images * 0.98), "test_accuracy": results["test_accuracy"],
                "triples": on_triples(f"{minutes} minutes", ["--weights", str(run), "--lr", lr]), "command": command()}
        if drawn is None:
            drawn = {"triples": on_triples("drawings", ["--weights", "drawings", "--lr", lr]), "command": command()}

    for values in (drawn, *pretrained.values()):
        gains = [after - before for after, before in zip(values["triples"]["test_accuracy"]["each"],
                                                         scratch["test_accuracy"]["each"], strict=True)]
        values["gain"] = {**summary(gains), "standard_error": round(statistics.stdev(gains) / len(gains) ** 0.5, 4)}
    plots.save(draw(scratch, drawn, pretrained), Path(__file__).parent.parent / "images" / "pretraining.png")
    write_log("pretraining", {
        "train_images": train_images, "classes": len(others.class_names),
        "triples": [classes[triple] for triple in TRIPLES],
        "rate": rate, "lr": lr, "accuracy_on_the_sixth_triple": tried,
        "scratch": scratch, "drawings": drawn, "pretrained": pretrained})


if __name__ == "__main__":
    main()
