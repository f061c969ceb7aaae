"""Write the tables of README.md, benchmarks/README.md and the scorecard from the logs: python -m benchmarks.readme

A table stands between <!-- NAME --> and <!-- /NAME -->. A test fails where a table and its log differ.
"""
import math
import statistics
from pathlib import Path

from benchmarks import scorecard
from benchmarks.cifar100 import minutes_of
from benchmarks.common import log
from benchmarks.trained import MODELS
from going_modular import config, utils
from going_modular.recipe import BFLOAT16_FROM
from notebooks.address import address

FOLDER = Path(__file__).parent
SIMPLE = {"histogram": "colour histograms", "pixels": "raw pixels", "mean_colour": "the mean colour"}


def main_job_text(name: str) -> str:
    """Accuracy and time of the ViT, the CNN and the simple means on one data set."""
    values = log(f"main_job_{name}")
    simple = values["simple"]
    rows = [("Vision Transformer, `python -m going_modular.train`", values["vit"])]
    if cnn := values.get("cnn"):
        rows.append((f"CNN of {cnn['parameters'] / 1e6:.1f}M parameters, same time and recipe, AdamW for all weights",
                     cnn))
    lines = ["| | test accuracy, mean | standard deviation | each seed | training, mean |", "|---|---|---|---|---|"]
    for title, row in rows:
        accuracy = row["test_accuracy"]
        each = ", ".join(f"{value:.3f}" for value in accuracy["each"])
        lines.append(f"| {title} | **{accuracy['mean']:.3f}** | {accuracy['std']:.3f} | {each} | "
                     f"{row['train_seconds']['mean']:.0f} s |")
    lines += [f"| logistic regression on {title} | {simple[key]:.3f} | | | |" for key, title in SIMPLE.items()]
    lines.append(f"| always the class that is most frequent in the test set | {simple['one_class']:.3f} | | | |")
    vit = values["vit"]
    low, high = vit["interval_95"]
    repeats = vit["settings"]["repeats"]
    passes = f" that show each image {repeats} times" if repeats > 1 else ""
    return "\n".join(lines) + (
        f"\n\n{values['train_images']} images to train, {values['test_images']} to test; "
        f"{vit['parameters'] / 1e6:.1f}M parameters, {vit['epochs']} epochs{passes}, seeds "
        f"{', '.join(map(str, values['seeds']))}. The test loss is {vit['test_loss']['mean']:.3f} "
        f"on average, that of equal shares for all classes {vit['guess_loss']:.3f}. With "
        f"{values['test_images']} test images the 95 % interval of a run with the mean accuracy "
        f"is {low:.3f} to {high:.3f}. The slowest run trained for "
        f"{max(vit['train_seconds']['each']):.0f} s, evaluation after each epoch included; the "
        f"process took {values['peak_memory_gib']:.1f} GiB of memory. "
        f"{measured_on(values, f'main_job_{name}')}")


def measured_on(values: dict, name: str, made_by: set[str] | None = None) -> str:
    """made_by: the commands that made the log, where it was more than the last one."""
    machine, made_by = values["machine"], made_by or {values["command"]}
    commands, last = " and ".join(f"`{made}`" for made in sorted(made_by)), "last on " if len(made_by) > 1 else ""
    return (f"{machine['cores']} cores of {machine['cpu']}, PyTorch {machine['torch'].split('+')[0]}, {last}"
            f"{values['date']}: {commands}, [log](results/{name}.json).")


def cifar100_cpu_text() -> str:
    values, stored, beside = log("cifar100_cpu"), log("trained_cifar100"), log("cifar100_cpu_cnn")
    split = "" if stored["public_split"] else (
        "All of this is on a split of our own, not on the published one: the 60,000 images were divided anew into 500 "
        "to train and 100 to test of each class. So compare it with published results in the rough alone, and do not "
        "test `cifar100` on the published test images: about five in six of them were among its training images. ")
    run = values["runs"][0]
    low, high = run["test_accuracy_95"]
    passes_a_row = run["passes"] / len(run["history"])
    seconds = sorted(row["seconds"] / passes_a_row for row in run["history"])
    costs = 3 * run["multiply_adds"] * run["passes"] * values["train_images"]
    course = ", ".join(f"{row['epoch'] * passes_a_row:.0f}: {row['test_acc']:.3f}" for row in run["history"])
    cnn = beside["runs"][0]
    cnn_low, cnn_high = cnn["test_accuracy_95"]
    return (
        f"All {values['classes']} classes, from scratch: a ViT of {run['parameters'] / 1e6:.1f}M parameters reaches a "
        f"test accuracy of **{run['test_accuracy']:.3f}** (95 % interval {low:.3f} to {high:.3f}, one seed) after "
        f"{run['passes']} passes over {values['train_images']:,} images, which are {costs / 1e12:.0f} trillion "
        f"multiply-adds; always one class scores {values['one_class_accuracy']:.2f}. The accuracy after each number "
        f"of passes: {course}. The matrices of the encoder are trained with Muon, the images augmented batch by batch. "
        f"A pass took {seconds[0]:.0f} to {seconds[-1]:.0f} s, depending on what else the machine did.\n\nA CNN of "
        f"{cnn['parameters'] / 1e6:.1f}M parameters, by the same recipe with AdamW for all its weights, reaches "
        f"**{cnn['test_accuracy']:.3f}** (95 % interval {cnn_low:.3f} to {cnn_high:.3f}, one seed) after "
        f"{cnn['passes']} passes. By their fastest passes the ViT's training takes {minutes_of(run)[-1]:.0f} minutes "
        f"and the CNN's {minutes_of(cnn)[-1]:.0f}:\n\n![Test accuracy of the ViT and of the CNN against minutes of "
        "training](../images/cifar100.png)\n\nOn the "
        "published split, plain ViTs from scratch are known to reach 0.665 "
        "([ViT-CIFAR](https://github.com/omihub777/ViT-CIFAR), 6.3M parameters) and 0.698 (ViT-Lite-7/4, 3.7M, 200 "
        "epochs, [Hassani et al., 2021](https://arxiv.org/abs/2104.05704)), on GPUs.\n\nThe weights "
        f"come with the package as `cifar100`; in half precision they reach {stored['test_accuracy']:.3f} "
        f"([log](results/trained_cifar100.json)). {split}"
        f"{measured_on(values, 'cifar100_cpu')} {measured_on(beside, 'cifar100_cpu_cnn')}")


def mnist_text() -> str:
    values, longer = log("mnist"), log("mnist_50_passes")
    lines = ["| | test accuracy, mean | each seed | mean F1 | test loss | parameters | training, mean |",
             "|---|---|---|---|---|---|---|"]
    passes, more = (of["settings"]["epochs"] * of["settings"]["repeats"] for of in (values, longer))
    rows = {f"Vision Transformer, {passes} passes": values["vit"], f"the same, {more} passes": longer["vit"],
            "CNN, same time and recipe, AdamW for all weights": values.get("cnn")}
    for title, row in rows.items():
        if row is None:  # not measured yet
            continue
        each = ", ".join(f"{value:.4f}" for value in row["test_accuracy"]["each"])
        lines.append(f"| {title} | **{row['test_accuracy']['mean']:.4f}** | {each} | {row['mean_f1']['mean']:.4f} | "
                     f"{row['test_loss']['mean']:.3f} | {row['parameters']:,} | "
                     f"{row['train_seconds']['mean']:.0f} s |")
    return "\n".join(lines) + (
        f"\n\n{values['train_images']:,} training images, of which a tenth is held out, "
        f"{values['test_images']:,} to test. Always the same digit scores {values['one_class_accuracy']:.3f}, equal "
        f"shares have a loss of {values['guess_loss']:.3f}. The recipe was chosen on held-out training digits; "
        "two earlier ones had been scored on the test set before, so these figures are not "
        "wholly blind. A test digit is seen at five places, up to a pixel from its own, and the "
        "probabilities are averaged. "
        f"{measured_on(values, 'mnist', {values[name]['command'] for name in ('vit', 'cnn') if name in values})} "
        f"The longer training: {measured_on(longer, 'mnist_50_passes')}")


def pretraining_text() -> str:
    values = log("pretraining")
    count = values["rate"]["threads"]
    threads = "one thread of the CPU takes" if count == 1 else f"{count} threads of the CPU take"
    stages = {"none": values["scratch"]} | {name: {**row["triples"], "gain": row["gain"]} for name, row in (
        ("drawings alone: the model `drawings`", values["drawings"]),
        *((f"photos, {minutes} minutes, {row['images'] / 1e6:.1f} million images", row)
          for minutes, row in values["pretrained"].items()))}
    lines = ["| pre-training | test accuracy, mean | each triple | gain ± standard error |", "|---|---|---|---|"]
    for name, row in stages.items():
        each = ", ".join(f"{value:.3f}" for value in row["test_accuracy"]["each"])
        gain = ""
        if "gain" in row:  # the standard error from the gains themselves: that of the log is rounded
            error = statistics.stdev(row["gain"]["each"]) / math.sqrt(len(row["gain"]["each"]))
            gain = f"{row['gain']['mean']:+.3f} ± {error:.3f}"
        lines.append(f"| {name} | **{row['test_accuracy']['mean']:.3f}** | {each} | {gain} |")
    return "\n".join(lines) + (
        f"\n\nThe ViT of the main job is trained on {values['train_images']:,} photos of "
        f"{values['classes']} dishes (Food-101 at 64 px), for as many images as {threads} in "
        f"so many minutes ({values['rate']['images_a_second']:.0f} a second), then on 225 photos of three "
        "other dishes, as the ViT without pre-training is, and the one of the [package](#pre-trained-weights-that-come-"
        "with-the-package) that has seen no photo; five such triples, 1,200 test photos each. "
        + measured_on(values, "pretraining", {
            row["command"] for row in (values["drawings"], *values["pretrained"].values())}))


def trained_text() -> str:
    """The models that come with the package."""
    without_muon = [name for name, (_, options) in sorted(MODELS.items())
                    if config.parse(options.split())["muon"] == 0]
    lines = ["| name | trained on | training images | classes | pixels | parameters | test accuracy |",
             "|---|---|---|---|---|---|---|"]
    for name in sorted(file.stem for file in utils.TRAINED.iterdir()):
        values, (_, info) = log(f"trained_{name}"), utils.load_model(utils.TRAINED / f"{name}.pt")
        lines.append(f"| `{name}` | {info.settings['data']} | {values['train_images']:,} | {len(info.class_names)} | "
                     f"{info.image_size} | {values['parameters']:,} | **{values['test_accuracy']:.3f}** of "
                     f"{values['test_images']:,}, [log](results/trained_{name}.json) |")
    return "\n".join(lines) + (
        "\n\nBut for `cifar100`, part of the training images was held out: a tenth, or the share that the options in "
        f"the log name. {' and '.join(f'`{name}`' for name in without_muon)} were trained without Muon; the drawn food "
        "[above](#drawn-food) is learned with it.")


def from_weights_text() -> str:
    values = log("from_weights_photos")
    lines = ["| | test accuracy, mean | standard deviation | each seed |", "|---|---|---|---|"]
    for name, row in values["ways"].items():
        accuracy = row["test_accuracy"]
        each = ", ".join(f"{value:.3f}" for value in accuracy["each"])
        lines.append(f"| {name} | **{accuracy['mean']:.3f}** | {accuracy['std']:.3f} | {each} |")
    own, main = log("trained_food98"), log("main_job_photos")["vit"]
    held_out = config.parse(own["options"].split())["hold_out"]
    return "\n".join(lines) + (
        f"\n\n{values['train_images']} photos of pizza, steak and sushi to train, {values['test_images']} to test, "
        "each way shown each photo that was not held out 100 times (the main job does so "
        f"{main['epochs'] * main['settings']['repeats']} times). `food98` has "
        f"{own['parameters'] / 1e6:.1f}M parameters and was trained on {own['train_images']:,} photos, "
        f"{held_out:.0%} of them held out, of the {len(own['class_names'])} other dishes of Food-101 at 64 px "
        f"for {own['epochs']} epochs, on one thread of a "
        f"machine that did other work as well; of {own['test_images']:,} test photos of these dishes it names "
        f"{own['test_accuracy']:.3f} right ([log](results/trained_food98.json)). "
        "`drawings` has seen no photo, but drawings of these three dishes among others. From scratch the options are "
        f"`{' '.join(values['ways']['from scratch']['options'])}`, and the matrices of the encoder are trained with "
        f"Muon; from `food98` they are `{' '.join(values['ways']['from food98']['options'])}`, from `drawings` the "
        "same, and all weights are trained with AdamW. "
        + measured_on(values, "from_weights_photos", {way["command"] for way in values["ways"].values()}))


def step_time_text() -> str:
    values = log("step_time_cpu")
    names = list(values["results"][0]["forward"][0]["median_seconds"])
    lines = [f"| model | step | {' | '.join(names)} | ours / fastest other |", "|---" * (len(names) + 3) + "|"]
    for row in values["results"]:
        for kind, title in (("forward", "forward"), ("forward_backward", "forward + backward")):
            cells = [1000 * statistics.median(run["median_seconds"][name] for run in row[kind]) for name in names]
            ratio = row["fastest_other"][kind]["ours_to_it"]
            lines.append(f"| {row['variant']}, {row['image_size']} px, batch {row['batch_size']} | {title} | "
                         f"{' | '.join(f'{cell:.0f}' for cell in cells)} | **{ratio:.3f}** |")
    return "\n".join(lines) + (
        f"\n\nMilliseconds, fp32, medians of {values['runs']} runs. Ours is timed right beside "
        f"each other library, {values['repeats']} times a run: the ratio is the median of these "
        "pairs, then of the runs, to the library that comes out fastest. "
        f"{measured_on(values, 'step_time_cpu')}")


def cpu_precision_text() -> str:
    values = log("cpu_precision")
    lines = ["| hidden size | images | batch | float32 | bfloat16 | times as fast |", "|---|---|---|---|---|---|"]
    for row in values["rows"]:
        full, half = (f"{1000 * row['seconds'][name]:.0f}" for name in ("float32", "bfloat16"))
        lines.append(f"| {row['hidden_size']} | {row['image_size']} px, patches of {row['patch_size']} | "
                     f"{row['batch_size']} | {full} | {half} | **{row['times_as_fast']:.2f}** |")
    return "\n".join(lines) + (
        f"\n\nMilliseconds of a training step of {values['blocks']} blocks with AdamW, medians of {values['repeats']}, "
        f"timed in turn, on a CPU with {' and '.join(values['instructions'])}. `--precision auto` takes bfloat16 there "
        f"from a hidden size of {BFLOAT16_FROM} on. {measured_on(values, 'cpu_precision')}")


def table9_text() -> str:
    values = log("table9")
    lines = ["| task | images to train, to test | from scratch | from `food98` |", "|---|---|---|---|"]
    for row in values["rows"].values():
        cells = [f"{accuracy['mean']:.3f} ± {accuracy['std']:.3f}" for accuracy in row["test_accuracy"].values()]
        lines.append(f"| {row['what']} | {row['train_images']:,}, {row['test_images']:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + (
        f"\n\nMean and standard deviation of {len(values['seeds'])} seeds. A tenth of the training images is held out; "
        f"both ways train on {values['images_shown']:,} views of the others at 64 px: from scratch the matrices of the "
        "encoder with Muon, from `food98` all weights with AdamW. The setting is one for all tasks, but digits have "
        "their own preset, which mirrors none. "
        f"{measured_on(values, 'table9')}")


def time_to_accuracy_text() -> str:
    values = log("time_to_accuracy")
    lines = ["| data | trained by | seconds to a test accuracy of | accuracy at the end | best of all tests |",
             "|---|---|---|---|---|"]
    for name, row in values["rows"].items():
        for title, way in (("our recipe", row["ours"]), ("the plain loop", row["plain"])):
            reached = ", ".join(f"{goal}: {'never' if seconds is None else f'{seconds} s'}"
                                for goal, seconds in way["seconds_to"].items())
            lines.append(f"| {name}, {row['test_images']:,} to test | {title}, {way['seconds']:.0f} s | {reached} | "
                         f"**{way['last']:.3f}** | {way['best']:.3f} of {way['epochs']} |")
    return "\n".join(lines) + (
        "\n\nThe same ViT on the same images in memory for the same time (the plain loop ends "
        "the epoch that it has begun), on one seed. The plain loop is Adam at 1e-3 without "
        "augmentation, schedule or weight decay. Both are tested after each epoch, and a time is "
        "that of the first test that shows an accuracy: with few test images, the more tests the "
        "more luck. Our seconds contain the tests, those of the plain loop do not. CIFAR-100 is "
        "here its first 20 classes, in the split of the section on it, with the model and recipe of "
        "`benchmarks.cifar100`; MNIST is shown three times here, five times in the section on it. A schedule pays at "
        "its end: on the way there the plain loop can be ahead. "
        + " ".join(f"{name}: {measured_on(row, 'time_to_accuracy')}" for name, row in values["rows"].items()))


def pipeline_text() -> str:
    values = log("input_pipeline")
    rates, epochs, learned = (values["parts"][part] for part in ("rates", "epochs", "accuracy"))
    seconds = epochs["medians"]
    accuracies = " and ".join(
        f"{statistics.mean(row):.3f} ± {statistics.stdev(row):.3f} from "
        f"{name.replace('ours', '`going_modular`')}"
        for name, row in learned["test_accuracy"].items())
    lines = ["| pipeline | images a second | seconds of an epoch of Mini/16 |", "|---|---|---|"]
    lines += [f"| {name.replace('ours', '`going_modular`')} | {rate:.0f} | {seconds[name]:.1f} |"
              for name, rate in rates["medians"].items()]
    lines.append(f"| none, one batch again and again | | {seconds['no pipeline']:.1f} |")
    return "\n".join(lines) + (
        f"\n\n{rates['images']} JPEG files of 512 px to batches of {rates['image_size']} px: each "
        f"at its best, ours prepares **{rates['ratio']:.1f} times** as many images a second, "
        "since files are decoded once (up to 1 GiB of pixels is kept, shrunk to twice the image "
        "size), views stay bytes until they lie in a batch, and one matrix changes all colours "
        f"of an image. After {learned['epochs']} epochs at 64 px a Mini/8 has a test accuracy of "
        f"{accuracies}, {len(learned['seeds'])} seeds, {learned['test_images']} test images. "
        f"{measured_on(values, 'input_pipeline', {part['command'] for part in values['parts'].values()})}")


def growth_text() -> str:
    values = log("growth_cpu")
    base, prices = values["base"], values["prices"]
    exponents = ", ".join(f"{what} {row['seconds']:.2f} and {row['kept_bytes']:.2f}"
                          for what, row in values["exponents"].items())
    lines = ["| | ms of a step | MB kept for the backward pass |", "|---|---|---|"]
    lines += [f"| {name} | {1000 * row['seconds']:.0f} | {row['kept_bytes'] / 1e6:.1f} |"
              for name, row in prices.items()]
    return (
        "![Time and memory of a training step against tokens, batch size, width and "
        "depth](../images/growth_cpu.png)\n\nEach number is doubled on its own, around "
        f"{base['tokens']} tokens, batch {base['batch size']}, width {base['width']}, depth "
        f"{base['depth']}. The exponents that fit, of time and of memory: {exponents}. "
        "What two ways to save memory cost at the base:\n\n" + "\n".join(lines)
        + f"\n\n{measured_on(values, 'growth_cpu')}")


def parity_text() -> str:
    values = log("parity")
    columns = {"logits": ("float32", "logits"), "gradient of the image": ("float32", "gradient of the image"),
               "gradients of the weights": ("float32", "gradients of the weights"),
               "logits at 384 px": ("float32", "at 384 px"), "logits in float64": ("float64", "logits")}
    lines = [f"| weights and model of | variant | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    table = values["largest_relative_difference"]
    for library in next(iter(table.values())):
        for variant, row in table.items():
            title = f"{variant}, 2 layers" if variant.startswith("H") else variant
            cells = [row[library][dtype].get(name) for dtype, name in columns.values()]
            lines.append(f"| {library} | {title} | "
                         f"{' | '.join('' if cell is None else f'{cell:.0e}' for cell in cells)} |")
    machine, versions = values["machine"], values["versions"]
    return "\n".join(lines) + (
        "\n\nThe largest difference between our numbers and theirs, relative to the largest of "
        "theirs, for a random image of 224 px and random weights from the library's own "
        "initialiser. \"official\" is the authors' architecture, written in numpy in float64 by "
        "the names of their files alone; its gradients are those of timm, which reads the same "
        f".npz by its own reader. torchvision {machine['torchvision'].split('+')[0]}, timm "
        f"{versions['timm']}, transformers {versions['transformers']}, {values['date']}: "
        f"`{values['command']}`, [log](results/parity.json).")


BUILDS = {  # notebook: what it builds, the part of the paper
    "00_setup_and_data": ("the environment, the food data set, one batch looked at", ""),
    "01_overview": ("the whole model on one page: figure, equations, sizes, shapes", "Fig. 1, Eq. 1-4, Table 1"),
    "02_patch_embedding": ("an image becomes a sequence: patches, reshape + Linear = Conv2d", "Eq. 1"),
    "03_class_token_and_position": ("class token, positions, image to z_0", "Eq. 1"),
    "04_multihead_self_attention": ("LayerNorm, one head, many heads, fused", "Eq. 2, 5-8"),
    "05_mlp_block": ("GELU, two layers, dropout", "Eq. 3, B.1"),
    "06_transformer_encoder": ("the block, residuals, the stack", "Eq. 2-3"),
    "07_vit_base": ("heads, the full ViT, Table 1 to the unit, torchvision's logits", "Eq. 4, Table 1, 6"),
    "08_train_on_mnist": ("the training loop, honest metrics, beside a CNN", ""),
    "09_train_on_cifar100": ("the recipe: each part built, then switched off; a recipe that can't learn", "Table 3"),
    "10_look_inside": (
        "filters, positions, attention distance, rollout, Grad-CAM, before and after training", "Fig. 6, 7"),
    "11_ablations": ("kinds of positions, class token or mean, depth to patch size, cost against tokens",
                     "Table 8, Fig. 8, 9, 12"),
    "12_pretrain_and_finetune": ("how much pre-training data, probe, fine-tuning at another resolution, masked patches",
                                 "Fig. 3, 4, Table 4, B.1.2"),
    "13_train_on_food": ("your own project: from scratch, from pre-training, your photo", "B.1.1, Fig. 6"),
}


def series_text() -> str:
    values = log("notebook_time")
    colab = f"https://colab.research.google.com/github/{address()}/blob/main/notebooks"
    lines = ["| notebook | builds | the paper | seconds | |", "|---|---|---|---|---|"]
    for name, (builds, part) in BUILDS.items():
        badge = f"[![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab}/{name}.ipynb)"
        seconds = f"{values['seconds'][name]:.0f}" if name in values["seconds"] else ""  # empty: not measured yet
        lines.append(f"| [{name}](notebooks/{name}.ipynb) | {builds} | {part} | {seconds} | {badge} |")
    return "\n".join(lines) + (
        f"\n\nSeconds on {values['machine']['cores']} CPU cores without a network, "
        f"{values['date']}: "
        f"{' and '.join(f'`{made}`' for made in sorted(set(values['made_by'].values())))}, "
        "[log](benchmarks/results/notebook_time.json).")


def front_text() -> str:
    """The four rows of README.md: what is reached, and next to what."""
    lines = ["| | here | to compare with | |", "|---|---|---|---|"]
    for title, name, anchor in (
            ("drawn food", "drawn", "drawn-food"),
            ("photos of pizza, steak and sushi", "photos", "photos-of-pizza-steak-and-sushi")):
        values = log(f"main_job_{name}")
        vit, simple = values["vit"], values["simple"]
        # Beside it the strongest of the simple means, whichever that is on these data.
        best = max(SIMPLE, key=simple.get)
        cnn = ""
        if "cnn" in values:
            cnn = f"a CNN in the same time {values['cnn']['test_accuracy']['mean']:.3f}, "
        lines.append(
            f"| {title}, {values['test_images']} to test | test accuracy "
            f"**{vit['test_accuracy']['mean']:.3f}**, standard deviation "
            f"{vit['test_accuracy']['std']:.3f} over {len(values['seeds'])} seeds | {cnn}logistic "
            f"regression on {SIMPLE[best]} {simple[best]:.3f}, always one class "
            f"{simple['one_class']:.3f} | {vit['train_seconds']['mean']:.0f} s of training, "
            f"[more](benchmarks/README.md#{anchor}) |")
    values, longer = log("mnist"), log("mnist_50_passes")["vit"]
    vit = values["vit"]
    lines.append(
        f"| MNIST, {values['test_images']:,} to test | test accuracy "
        f"**{vit['test_accuracy']['mean']:.4f}** over {len(vit['test_accuracy']['each'])} seeds; "
        f"{longer['test_accuracy']['mean']:.4f} in {longer['train_seconds']['mean'] / 60:.0f} minutes, one seed | "
        f"always one class {values['one_class_accuracy']:.3f} | "
        f"{vit['train_seconds']['mean']:.0f} s of training, [more](benchmarks/README.md#mnist) |")
    # The ratio of the log, not of the medians: ours and the other library were timed in pairs.
    values = log("step_time_cpu")
    row = next(row for row in values["results"] if row["variant"] == "B/16")
    fastest = row["fastest_other"]["forward_backward"]
    others = [name for name in row["forward_backward"][0]["median_seconds"] if name != "ours"]
    lines.append(
        f"| training step of ViT-B/16, {row['image_size']} px, batch {row['batch_size']} | "
        f"**{fastest['ours_to_it']:.3f}** of the time of {fastest['name']} | the fastest of "
        f"{', '.join(others)} | "
        "[more](benchmarks/README.md#time-of-a-step) |")
    trained, timed = log("main_job_drawn")["machine"], values["machine"]
    reached = {name: way["test_accuracy"]["mean"] for name, way in log("from_weights_photos")["ways"].items()}
    return "\n".join(lines) + (
        f"\n\nAccuracies are those of training from scratch, on {trained['cores']} cores of {trained['cpu']}; the step "
        f"was timed on {timed['cores']} cores of {timed['cpu']}. On the same photos, shown half as often, training "
        f"from the weights `food98` reaches **{reached['from food98']:.3f}**, from the weights `drawings`, which have "
        f"seen drawings alone, {reached['from drawings']:.3f}, and training from scratch "
        f"{reached['from scratch']:.3f}: "
        "[more](benchmarks/README.md#pre-trained-weights-that-come-with-the-package).")


def parity_line() -> str:
    """The largest numbers of the table of parity, in one sentence."""
    values = log("parity")
    table = values["largest_relative_difference"]
    rows = list(table.values())
    largest = {dtype: max(max(of[dtype].values()) for row in rows for of in row.values())
               for dtype in ("float32", "float64")}
    others = ", ".join(library for library in rows[0] if library != "official")
    variants = ", ".join(f"{variant} (2 layers)" if variant.startswith("H") else variant for variant in table)
    return (
        f"Beside {others} and the authors' architecture written in numpy, for {variants}, logits "
        f"and gradients differ by at most {largest['float32']:.0e} of their largest in float32, "
        f"logits in float64 by {largest['float64']:.0e}: [all "
        "numbers](benchmarks/README.md#the-same-numbers-as-the-libraries).")


def sections() -> dict[Path, dict[str, str]]:
    """What stands between <!-- NAME --> and <!-- /NAME -->, by file and name."""
    return {
        FOLDER.parent / "README.md": {"series": series_text(), "results": front_text(), "parity": parity_line()},
        FOLDER / "README.md": {
            "photos": main_job_text("photos"), "drawn": main_job_text("drawn"), "mnist": mnist_text(),
            "cifar100": cifar100_cpu_text(), "pretraining": pretraining_text(),
            "trained": trained_text(), "from_weights": from_weights_text(), "step_time": step_time_text(),
            "cpu_precision": cpu_precision_text(), "table9": table9_text(),
            "time_to_accuracy": time_to_accuracy_text(), "pipeline": pipeline_text(), "growth": growth_text(),
            "parity": parity_text()},
        FOLDER.parent / "site" / "pages" / "scorecard.md": {"scorecard": scorecard.table()},
    }


def main() -> None:
    for file, tables in sections().items():
        text = file.read_text()
        for name, table in tables.items():
            marks = f"<!-- {name} -->", f"<!-- /{name} -->"
            if any(text.count(mark) != 1 for mark in marks):
                raise ValueError(f"{marks[0]} and {marks[1]} must stand once each in {file}")
            before, rest = text.split(marks[0])
            text = f"{before}{marks[0]}\n{table}\n{marks[1]}{rest.split(marks[1])[1]}"
        file.write_text(text)


if __name__ == "__main__":
    main()
