"""The drawings can be read: no text is cut off or overlaps another, and what they show is what they were given."""
from itertools import combinations
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from PIL import Image, ImageSequence

from going_modular import drawn
from going_modular.lessons import animations, charts, diagrams, primitives
from going_modular.plots import GREEN
from going_modular.vit import patchify

IMAGES = Path(__file__).resolve().parents[1] / "images"
PIZZA = drawn.draw_food("pizza", np.random.default_rng(3), size=64)
DRAWINGS = {
    "architecture": diagrams.architecture,
    "image_to_patches": lambda: diagrams.image_to_patches(PIZZA, 8),
    "few_patches": lambda: diagrams.image_to_patches(PIZZA, 32),
    "wrong_patches": lambda: diagrams.wrong_patches(PIZZA, 16),
    "flatten_patch": diagrams.flatten_patch,
    "token_sequence": diagrams.token_sequence,
    "split_heads": diagrams.split_heads,
    "attention_flow": diagrams.attention_flow,
    "mlp_block": diagrams.mlp_block,
    "pre_norm": diagrams.encoder_block,
    "post_norm": lambda: diagrams.encoder_block(pre_norm=False),
    "pre_and_post_norm": diagrams.pre_and_post_norm,
    "two_heads": diagrams.two_heads,
    "heat_map": lambda: charts.heat_map(-np.eye(3), ["one", "two", "three"], title="weights", signed=True),
    "heat_maps": lambda: charts.heat_maps(
        {"scores": -np.eye(6), "weights": np.eye(6)}, ["cheese"] * 6, ["cheese"] * 6),
    "effect_of_shuffling": lambda: charts.effect_of_shuffling(
        [np.zeros((4, 4, 3))] * 5, [0, 20, 50, 100, 196],
        {"without positions": [0.0] * 5, "with positions": [0.0, 0.002, 0.004, 0.007, 0.009]}),
    "chosen_patches": lambda: diagrams.chosen_patches(PIZZA, 16, [2, 9], ["table", "salami"], np.zeros((2, 3))),
    "layer_norm_and_batch_norm": diagrams.layer_norm_and_batch_norm,
    "one_query": lambda: charts.one_query([-1.5, 2], [0.03, 0.97], ["table", "cheese"], np.eye(3)[:2], 1),
    "weights_and_averages": lambda: charts.weights_and_averages(
        np.zeros((6, 3)), np.eye(6), np.ones((6, 3)), ["cheese"] * 6),
    "attention_of_heads": lambda: charts.attention_of_heads(
        np.zeros((196, 3)), np.ones((2, 196, 196)), ["colour", "place"], {106: "salami", 133: "cheese", 8: "table"}),
    "image_rows": lambda: diagrams.image_rows([[PIZZA] * 4] * 2, ["one", "two"], ["pizza", "again"]),
    "bars": lambda: charts.bars({"B/16": 86.6, "L/16": 304.3}, "{:.1f}", "million parameters"),
    "patches_in_memory": lambda: diagrams.patches_in_memory(np.arange(16).reshape(4, 4), np.arange(16)),
    "filter_sheets": lambda: charts.filter_sheets({name: torch.rand(28, 12) for name in "ab"}),
    "filter_maps": lambda: charts.filter_maps({"a": torch.rand(12), "b": torch.rand(12)},
                                                {"a": torch.rand(4, 4), "b": torch.rand(4, 4)}),
    "shares_kept": lambda: charts.shares_kept(
        [1, 4, 16], {"components": [0.1, 0.5, 1.0], "random filters": [0.0, 0.1, 1.0]},
        {f"{k} {name}": np.zeros((4, 4, 3)) for name in ("components", "random filters") for k in (4, 16, 64)}),
    "pixel_in_image": lambda: diagrams.pixel_in_image(PIZZA, 40, 3, 16),
}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def check_texts(figure: plt.Figure) -> None:
    """All texts are large enough, inside the canvas, and apart from one another."""
    figure.canvas.draw()
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    assert texts and all(text.get_fontsize() >= 10 for text in texts)
    for name, box in boxes:
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1
        assert inside, f"{name!r} is cut off"
    for (one, a), (other, b) in combinations(boxes, 2):
        width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert width < 3 or height < 3, f"{one!r} overlaps {other!r}"


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawing(name):
    figure = DRAWINGS[name]()
    assert plt.get_fignums() == [figure.number], "pyplot shows one figure, once"
    assert figure.get_figwidth() <= 11
    check_texts(figure)


def test_the_check_of_texts_fails_where_it_should():
    figure, axis = primitives.canvas(3, 2)
    primitives.put_text(axis, 1, 1, "one")
    check_texts(figure)
    primitives.put_text(axis, 1.1, 1, "another")
    with pytest.raises(AssertionError, match="overlaps"):
        check_texts(figure)


def test_image_to_patches_draws_all_patches_in_order():
    image = torch.rand(3, 12, 12)
    apart, *columns = [drawing.get_array() for drawing in diagrams.image_to_patches(image, 4).axes[0].images[1:]]
    expected = patchify(image[None], 4)[0]  # [9, 48], channel first
    cell = apart.shape[0] // 3
    gap = np.flatnonzero((apart[cell // 2] != 1).any(-1))[0]
    for i in range(9):
        row, column = i // 3 * cell, i % 3 * cell
        middle = apart[row + gap : row + cell - gap, column + gap : column + cell - gap]
        scale = middle.shape[0] // 4
        patch = middle[::scale, ::scale].transpose(2, 0, 1).ravel()
        np.testing.assert_allclose(patch, expected[i], atol=1e-6)
    for column, i in zip(columns, (0, 1, 2, 3, 4, 5, 8), strict=True):  # each number as a shade of its channel
        shades = column[:, 0] / np.repeat([to_rgb(color) for color in primitives.CHANNELS], 16, axis=0)
        np.testing.assert_allclose(shades[:, 0], expected[i], atol=1e-6)


def test_wrong_patches_are_those_of_view():
    image = torch.rand(3, 32, 32)
    drawing = diagrams.wrong_patches(image, 16).axes[0].images[2].get_array()
    gap = (drawing.shape[0] // 2 - 16) // 2
    second = drawing[gap : gap + 16, 16 + 3 * gap : 32 + 3 * gap]
    np.testing.assert_allclose(second, image.view(4, 3, 16, 16)[1].permute(1, 2, 0), atol=1e-6)


def test_four_encoders_draws_what_was_measured():
    measured = {name: {"signal": [1.0, size], "gradient": [size, 2.0], "similarity": [0.0, 0.5]}
                for name, size in (("pre-norm", 3.0), ("post-norm", 1.0))}
    axes = charts.four_encoders(measured).axes
    assert [[list(line.get_ydata()) for line in axis.lines] for axis in axes] == [
        [values[quantity] for values in measured.values()] for quantity in ("signal", "gradient", "similarity")]


def test_kept_and_dropped_and_two_stacks_draw_what_they_get():
    branches = {"before": torch.ones(4, 6), "after": torch.rand(4, 6)}
    before, after, _ = charts.kept_and_dropped(branches).axes
    assert (before.get_title(), after.get_title()) == ("before", "after")
    np.testing.assert_array_equal(after.images[0].get_array(), branches["after"])
    sizes = {"one": torch.ones(13), "two": torch.arange(13)}
    _, similarity, curves, _ = charts.two_stacks({"one": torch.eye(12), "two": torch.ones(12, 12)}, sizes).axes
    np.testing.assert_array_equal(similarity.images[0].get_array(), np.ones((12, 12)))
    assert [line.get_ydata()[-1] for line in curves.lines] == [1, 12]


def test_the_drawings_of_notebook_05_show_what_they_get():
    x = torch.linspace(-1, 1, 3)
    value, _, difference = charts.activation_functions(x, {"ReLU": (x.relu(), x.sign())}, x / 1e4).axes
    np.testing.assert_array_equal(value.lines[0].get_ydata(), [0, 0, 1])
    np.testing.assert_allclose(difference.lines[0].get_ydata(), x, rtol=1e-6)
    _, change = charts.changed_tokens({"MLP": torch.ones(2, 3), "MSA": 4 * torch.eye(2)}).axes
    np.testing.assert_array_equal(change.images[0].get_array(), np.eye(2))
    passes = charts.dropped_units({"training": 1 - torch.eye(2), "evaluation": torch.ones(2, 2)})
    assert [[text.get_position() for text in axis.texts] for axis in passes.axes] == [[(0, 0), (1, 1)], []]
    parts = {"parameters": {"MSA": 1, "pairs": 0, "MLP": 3}}
    texts = charts.shares_of_a_block(parts).axes[0].texts
    assert [(text.get_text(), text.get_position()[0]) for text in texts] == [("25%", 0.125), ("75%", 0.625)]
    axis = charts.shares_by_image_size({64: parts["parameters"], 128: {"MSA": 1, "pairs": 2, "MLP": 1}}).axes[0]
    assert [layer.get_label() for layer in axis.collections] == ["MSA", "pairs", "MLP"]


def test_the_drawings_of_notebook_07_show_what_they_get():
    picture = Image.new("RGB", (8, 8), "red")
    paper, ours = {("B/32", 7): 55.0, ("B/16", 7): 224.0}, {("B/32", 7): 54.0, ("B/16", 7): 223.0}
    bars = charts.cost_of_pretraining(paper, ours)
    assert [bar.get_width() for bar in bars.axes[0].patches] == [55, 224, 54, 223]
    curves = charts.learned_by_heart([(picture, "pizza")] * 12, {"right": [1.0, 0.01], "wrong": [1.0, 0.6]}).axes[-1]
    assert [line.get_ydata()[1] for line in curves.lines[:2]] == [0.01, 0.6]
    figure = charts.answers_and_attention([("pizza", picture), ("steak", picture)], ["pizza", "sushi"], [0.9, 0.6],
                                            torch.eye(2).repeat(2, 1, 1))
    titles = [axis.title for axis in figure.axes[:2]]
    assert [title.get_text() for title in titles] == ["pizza 90%", "sushi 60%"]
    assert [title.get_color() == "black" for title in titles] == [True, False]
    weights = torch.linspace(-0.05, 0.05, 100)
    assert len(charts.initial_weights(weights, weights, 2 * weights, weights).axes) == 3


def test_heat_map_shows_its_numbers():
    figure = charts.heat_map(np.array([[0.126, -0.0001], [2.0, -1.5]]), ["a", "b"], ["c", "d"], signed=True)
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.13", "0.00", "2.00", "-1.50"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b"]
    figure = charts.heat_map(torch.arange(6).reshape(2, 3))
    assert [text.get_text() for text in figure.axes[0].texts] == list("012345")


def test_one_query_shows_its_scores_and_weights_from_the_first_token_down():
    axes = charts.one_query([-1.391, 1.732], [0.014, 0.986], ["table", "cheese"], np.eye(3)[:2], 1).axes
    assert [[text.get_text() for text in axis.texts] for axis in axes] == [["-1.39", "1.73"], ["0.01", "0.99"]]
    assert axes[0].yaxis_inverted()


def test_effect_of_the_scale_has_a_line_for_each_divisor_in_each_plot():
    measured = {"nothing": np.full((2, 3), 8.0), "root": np.full((2, 3), 1.0)}
    axes = charts.effect_of_the_scale([16, 64], measured).axes
    assert [[line.get_label() for line in axis.lines] for axis in axes] == [["nothing", "root"]] * 3


def test_framed_patches_lie_where_they_are_counted():
    axis = diagrams.chosen_patches(PIZZA, 16, [6], ["cheese"], np.zeros((1, 3))).axes[0]
    assert axis.patches[0].get_bbox().bounds == (2, 1, 1, 1)  # patch 6 of 4 x 4: second row, third column


def test_gains_have_the_largest_mean_on_top_and_a_dot_for_each_pair():
    axis = charts.gains({"best": [0.1, 0.3], "worst": [-0.2, 0.0], "none": [0.0, 0.02]}, "gain").axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["worst", "none", "best"]
    dots = {round(float(y)): x for line in axis.lines if line.get_marker() == "o" for x, y in [
        (line.get_xdata().tolist(), line.get_ydata()[0])]}
    means = {round(float(line.get_ydata()[0])): float(line.get_xdata()[0])
             for line in axis.lines if line.get_marker() == "D"}
    assert dots[2] == [0.1, 0.3] and means == pytest.approx({0: -0.1, 1: 0.01, 2: 0.2})


def test_channel_histograms_count_each_pixel_once():
    images = torch.rand(2, 3, 4, 5)
    left, right = charts.channel_histograms({"before": images, "after": images * 2 - 1}).axes
    assert (left.get_title(), right.get_title()) == ("before", "after")
    for outline in (*left.patches, *right.patches):
        assert outline.get_xy()[:, 1].sum() == 2 * (2 * 4 * 5)  # each bin has two corners at its height


def frames_of_token(frame: Image.Image) -> int:
    """How many green frames, each around a token with its position, the fullest line of pixels runs through."""
    pixels = np.asarray(frame).astype(float)
    green = np.abs(pixels - 255 * np.array(to_rgb(GREEN))).sum(-1) < 150
    edges = np.maximum(np.diff(green.astype(int), axis=1), 0).sum(1)  # two a frame, but one at its upper edge
    return edges.max() // 2


def test_patches_animation_ends_with_all_tokens(monkeypatch):
    render = animations.render_frames
    monkeypatch.setattr(animations, "render_frames", lambda scene, steps: render(scene, [(1, 1)] * len(steps)))
    frames = animations.patches_animation(Image.new("RGB", (32, 32), "black"), 16)
    assert len(frames) == 12 and len({frame.size for frame in frames}) == 1
    assert frames_of_token(frames[0]) == 0 and frames_of_token(frames[-1]) == 5
    assert plt.get_fignums() == []


def test_forward_animation_scenes(monkeypatch):
    monkeypatch.setattr(animations, "render_frames", lambda scene, steps: (scene, len(steps)))
    scene, steps = animations.forward_animation()
    for step in range(steps):
        figure = scene(step + 1)
        check_texts(figure)
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert "block 12 of 12" in labels and "head" in labels


@pytest.mark.parametrize("name", ["image_to_tokens.gif", "forward_pass.gif"])
def test_stored_animations(name):
    assert (IMAGES / name).stat().st_size < 700_000
    with Image.open(IMAGES / name) as animation:
        times = [frame.info["duration"] for frame in ImageSequence.Iterator(animation)]
        assert 2000 <= times[-1] <= 4000 and 8_000 <= sum(times) <= 30_000
