"""The explanatory drawings: nothing is cut off, and they show what they are given."""
import matplotlib.pyplot as plt
import numpy as np
import pytest

from going_modular import diagrams, drawn

IMAGE = drawn.draw_food("pizza", np.random.default_rng(3), size=64)
DRAWINGS = {
    "architecture": diagrams.architecture, "flatten_patch": diagrams.flatten_patch,
    "token_sequence": diagrams.token_sequence, "split_heads": diagrams.split_heads,
    "attention_flow": diagrams.attention_flow, "mlp_block": diagrams.mlp_block,
    "encoder_block": diagrams.encoder_block, "pre_and_post_norm": diagrams.pre_and_post_norm,
    "two_heads": diagrams.two_heads, "image_to_patches": lambda: diagrams.image_to_patches(IMAGE, 16),
    "wrong_patches": lambda: diagrams.wrong_patches(IMAGE, 16), "heat_map": lambda: diagrams.heat_map(np.eye(3)),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_no_text_is_cut_off(name):
    figure = DRAWINGS[name]()
    figure.canvas.draw()
    said = [text for axis in figure.axes for text in axis.texts if text.get_text() and text.get_visible()]
    assert said
    for text in said:
        box = text.get_window_extent()
        assert box.x0 >= -1 and box.y0 >= -1, text
        assert box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1, text
    plt.close(figure)


def test_a_heat_map_shows_its_numbers():
    figure = diagrams.heat_map(np.array([[0.25, 0.75], [0.5, 0.125]]))
    said = " ".join(text.get_text() for axis in figure.axes for text in axis.texts)
    assert "0.25" in said and "0.75" in said
    plt.close(figure)


def test_frames_of_an_animation_have_one_size():
    frames = diagrams.patches_animation(IMAGE, 16)
    assert len(frames) > 10 and len({frame.size for frame in frames}) == 1
