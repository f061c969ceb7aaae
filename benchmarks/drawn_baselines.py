"""How fast the drawn food is drawn, and how little its colours and pixels give away.

python -m benchmarks.drawn_baselines [--seed 0]  ->  benchmarks/results/drawn_baselines.json
"""
import argparse
import time

import numpy as np
import torch

from benchmarks import baselines
from benchmarks.common import write_log
from going_modular import drawn


def tensors(name: str, split: str, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A split at its default size: images uint8 [N, 3, S, S] and labels [N]."""
    classes = drawn.SETS[name].classes
    pictures = [(np.asarray(image), classes.index(label)) for label, _, image in drawn.draw_set(name, split, seed)]
    images, labels = zip(*pictures)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)


def pictures_per_second(name: str, seed: int, pictures: int = 600) -> int:
    """Pictures a second, on the one core that drawing uses."""
    start = time.perf_counter()
    count = sum(1 for _ in drawn.draw_set(name, "train", seed, count=pictures // len(drawn.SETS[name].classes)))
    return round(count / (time.perf_counter() - start))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    rates = {name: pictures_per_second(name, seed) for name in drawn.SETS}
    print("pictures a second:", rates)
    (train_x, train_y), (test_x, test_y) = tensors("drawn", "train", seed), tensors("drawn", "test", seed)
    accuracies = baselines.simple_means(train_x, train_y, test_x, test_y)
    print("test accuracy:", accuracies)
    write_log("drawn_baselines", {"seed": seed, "train_pictures": len(train_y), "test_pictures": len(test_y),
                                  "test_accuracy": accuracies, "pictures_per_second": rates})


if __name__ == "__main__":
    main()
