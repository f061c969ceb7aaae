"""What colour and single pixels alone give away: multinomial logistic regression on simple features.

A class that such a model finds needs no Vision Transformer. Images are uint8 tensors or arrays [N, 3, S, S].
"""

import torch
from torch.nn import functional as F


def features_mean_colour(images) -> torch.Tensor:
    """[N, 3]: the mean of each channel, 0 to 1."""
    return torch.as_tensor(images).float().mean((2, 3)) / 255


def features_histogram(images) -> torch.Tensor:
    """[N, 88]: shares of pixels in 8 bins of each channel (24), and in 4 x 4 x 4 bins of all three together (64)."""
    images = torch.as_tensor(images)
    red, green, blue = (images // 64).unbind(1)
    single = [_shares(channel // 32, 8) for channel in images.unbind(1)]
    return torch.cat([*single, _shares(16 * red + 4 * green + blue, 64)], 1)


def _shares(values: torch.Tensor, bins: int) -> torch.Tensor:
    """[N, bins]: the share of each integer below `bins` in values [N, S, S]."""
    rows = bins * torch.arange(len(values))[:, None] + values.flatten(1)
    return rows.flatten().bincount(minlength=bins * len(values)).view(-1, bins) / values[0].numel()


def features_pixels(images) -> torch.Tensor:
    """[N, 3 * S * S]: every value of every pixel, 0 to 1."""
    return torch.as_tensor(images).flatten(1).float() / 255


def _fit(x: torch.Tensor, y: torch.Tensor, classes: int, l2: float, steps: int) -> torch.Tensor:
    """[features + 1, classes] weights that minimise the cross-entropy plus l2 |W|^2, by full-batch L-BFGS."""
    weights = torch.zeros(x.shape[1] + 1, classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=steps, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(x @ weights[:-1] + weights[-1], y) + l2 * weights[:-1].square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.detach()


def _accuracy(weights: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> float:
    return ((x @ weights[:-1] + weights[-1]).argmax(1) == y).float().mean().item()


def logistic_regression(train_x, train_y, test_x, test_y, l2_grid, steps: int = 100) -> float:
    """Test accuracy of multinomial logistic regression on standardised features; the test set is used once.

    The strength of L2 is the one of `l2_grid` that is best on a held-out fifth of the training set; with it, all of the
    training set is fitted. Features are float tensors [N, features], labels are integer tensors [N].
    """
    mean, std = train_x.mean(0), train_x.std(0).clamp_min(1e-6)
    train_x, test_x = (train_x - mean) / std, (test_x - mean) / std
    classes = int(train_y.max()) + 1
    order = torch.randperm(len(train_y), generator=torch.Generator().manual_seed(0))
    held_out, rest = order[: len(order) // 5], order[len(order) // 5 :]

    def score(l2: float) -> float:
        return _accuracy(_fit(train_x[rest], train_y[rest], classes, l2, steps), train_x[held_out], train_y[held_out])

    best = max(l2_grid, key=score)
    return _accuracy(_fit(train_x, train_y, classes, best, steps), test_x, test_y)


FEATURES = {  # name: function, strengths of L2 to choose from
    "mean_colour": (features_mean_colour, (1e-4, 1e-3, 1e-2, 0.1)),
    "histogram": (features_histogram, (1e-3, 1e-2, 0.1, 1.0)),
    "pixels": (features_pixels, (0.1, 1.0, 10.0)),
}


def simple_means(train_x, train_y, test_x, test_y) -> dict[str, float]:
    """Test accuracy of one class for all, the most frequent in the test set, and of logistic regression on mean colour,
    colour histograms and pixels."""
    accuracies = {"one_class": test_y.bincount().max().item() / len(test_y)}
    for kind, (features, l2_grid) in FEATURES.items():
        accuracies[kind] = logistic_regression(features(train_x), train_y, features(test_x), test_y, l2_grid)
    return {kind: round(accuracy, 4) for kind, accuracy in accuracies.items()}
