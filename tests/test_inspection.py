"""inspection: attention rollout against cases worked out by hand, and on models whose attention is known."""
import pytest
import torch

from going_modular import inspection
from going_modular.vit import ViT

SIZES = {"image_size": 12, "patch_size": 4, "num_classes": 3, "num_layers": 3, "hidden_size": 24, "mlp_size": 40,
         "num_heads": 3}  # 3 x 3 patches


def random_attentions(layers=4, batch=2, heads=3, tokens=5):
    return list(torch.randn(layers, batch, heads, tokens, tokens).mul(3).softmax(dim=-1))


def test_two_layers_by_hand():
    first = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]]])  # two heads, mean [[½, ½], [0, 1]]
    second = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]]])
    assert inspection.rollout([first, second], residual=False).tolist() == [[[0, 1], [0.5, 0.5]]]
    # with the residual path [[¾, ¼], [0, 1]] and [[½, ½], [½, ½]]; in the wrong order all would be ½
    assert inspection.rollout([first, second]).tolist() == [[[0.375, 0.625], [0.375, 0.625]]]


@pytest.mark.parametrize("residual", [True, False])
def test_rows_sum_to_one_and_nothing_is_negative(residual):
    mixed = inspection.rollout(random_attentions(), residual)
    assert mixed.shape == (2, 5, 5) and mixed.min() >= 0
    torch.testing.assert_close(mixed.sum(dim=-1), torch.ones(2, 5))


def test_tokens_that_attend_to_themselves_alone_stay_themselves():
    alone = [torch.eye(5).expand(2, 3, 5, 5)] * 4
    assert torch.equal(inspection.rollout(alone), torch.eye(5).expand(2, 5, 5))


def test_even_attention_leaves_each_token_a_half_by_the_residual_path_in_each_layer():
    even = [torch.full((1, 2, 4, 4), 1 / 4)] * 3
    others = (1 - 0.5**3) / 4
    torch.testing.assert_close(inspection.rollout(even)[0], 0.5**3 * torch.eye(4) + others)
    torch.testing.assert_close(inspection.rollout(even, residual=False)[0], torch.full((4, 4), 1 / 4))


def test_each_image_of_a_batch_is_on_its_own():
    both = random_attentions()
    for image in range(2):
        torch.testing.assert_close(inspection.rollout([a[image : image + 1] for a in both])[0],
                                   inspection.rollout(both)[image])


def test_low_precision_is_rolled_out_in_float32():
    mixed = inspection.rollout([a.bfloat16() for a in random_attentions()])
    assert mixed.dtype == torch.float32


def test_the_input_stays_as_it_is():
    given = random_attentions()
    copies = [a.clone() for a in given]
    inspection.rollout(given)
    assert all(map(torch.equal, given, copies))


def test_no_layer_is_an_error():
    with pytest.raises(ValueError, match="one layer at least"):
        inspection.rollout([])


def test_attentions_are_those_of_the_prediction():
    model, images = ViT(**SIZES, dropout=0.5, drop_path=0.5).train(), torch.randn(2, 3, 12, 12)
    found = inspection.attentions(model, images)
    assert [a.shape for a in found] == [(2, 3, 10, 10)] * 3 and not any(a.requires_grad for a in found)
    assert all(map(torch.equal, found, inspection.attentions(model, images)))  # no dropout
    seen = {}
    model.eval()(images, intermediates=seen)
    assert all(torch.equal(a, seen[f"block{layer:02}.attention"]) for layer, a in enumerate(found))


def test_nothing_is_made_on_another_device_than_the_models():
    with torch.device("meta"):
        model = ViT(**SIZES)
    maps = inspection.rollout_maps(model, torch.randn(2, 3, 12, 12))
    assert maps.device.type == "meta" and maps.shape == (2, 3, 3)


def looks_at(token, **settings):
    """A model whose every token attends to one of them, in every head and layer."""
    model = ViT(**{**SIZES, "num_heads": 1, **settings})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.position_embedding[0, token, 0] = 1  # alone in the first number, and the blocks add nothing to it
        for block in model.blocks:
            block.norm1.weight.fill_(1)
            block.msa.qkv.weight[24, 0] = 100  # the first number of a token is the first of its key
            block.msa.qkv.bias[0] = 100  # which every query asks for
    return model


@pytest.mark.parametrize("residual", [True, False])
def test_the_map_shows_the_patch_that_the_model_looks_at(residual):
    maps = inspection.rollout_maps(looks_at(token=6), torch.randn(2, 3, 12, 12), residual)
    expected = torch.zeros(2, 3, 3)
    expected[:, 1, 2] = 1  # token 0 is the class token, so token 6 is patch 5: row 1, column 2
    torch.testing.assert_close(maps, expected)


def test_without_a_class_token_all_patches_ask():
    model = looks_at(token=5, pool="mean")
    mixed = inspection.rollout(inspection.attentions(model, torch.randn(1, 3, 12, 12)))
    own = 0.5**3  # a patch keeps a half of itself in each of 3 layers, the rest is patch 5
    expected = torch.full((3, 3), own / 9)
    expected[1, 2] = 1 - 8 * own / 9
    torch.testing.assert_close(inspection.rollout_maps(model, torch.randn(1, 3, 12, 12))[0], expected)
    torch.testing.assert_close(mixed[0].mean(dim=0).view(3, 3), expected)


def test_the_share_in_itself_is_left_out():
    model, images = ViT(**SIZES), torch.randn(2, 3, 12, 12)
    maps, mixed = inspection.rollout_maps(model, images), inspection.rollout(inspection.attentions(model, images))
    torch.testing.assert_close(maps.sum(dim=(1, 2)), torch.ones(2))
    torch.testing.assert_close(maps.flatten(1), mixed[:, 0, 1:] / (1 - mixed[:, :1, 0]))


def test_overlay_darkens_where_the_map_is_low():
    images = torch.full((2, 3, 8, 8), 1.0)
    images[:, 0] = -1  # no red
    maps = torch.tensor([[[4.0, 0.0], [4.0, 0.0]], [[2.0, 2.0], [2.0, 2.0]]])
    pixels = inspection.overlay(images, maps)
    assert pixels.shape == (2, 8, 8, 3) and pixels[..., 0].max() == 0
    assert pixels[0, :, :2, 1:].min() == 1 and pixels[0, :, -2:].max() == 0  # left light, right dark
    assert torch.equal(pixels[1], (images[1] * 0.5 + 0.5).permute(1, 2, 0))  # no differences: the image itself
