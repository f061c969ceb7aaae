"""inspection against cases worked out by hand, and on models whose filters, positions and attention are known."""
import math

import pytest
import torch
from torchvision.models import VisionTransformer

from going_modular.paper import inspection
from going_modular.vit import ViT, patchify

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


@pytest.mark.parametrize("look", [
    lambda model: inspection.attentions(model, torch.zeros(1, 3, 16, 16)),
    lambda model: inspection.rollout_maps(model, torch.zeros(1, 3, 16, 16)),
    lambda model: inspection.grad_cam_maps(model, torch.zeros(1, 3, 16, 16), torch.tensor([0])),
    inspection.filter_components, inspection.position_similarity],
    ids=["attentions", "rollout_maps", "grad_cam_maps", "filter_components", "position_similarity"])
def test_a_model_of_another_library_is_told(look):
    theirs = VisionTransformer(16, 8, 1, 2, 24, 48, num_classes=3)
    with pytest.raises(TypeError, match="expected a ViT of this package, and this VisionTransformer has no settings: "
                                        "weights.load fills a ViT with the weights of torchvision"):
        look(theirs)


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


@pytest.mark.parametrize("settings", [{}, {"pool": "mean"}, {"num_layers": 1}])
def test_grad_cam_is_the_gradient_of_each_images_own_logit(settings):
    model = ViT(**{**SIZES, **settings}).train().requires_grad_(False)  # a frozen model has a map, too
    torch.nn.init.normal_(model.head.weight)
    images, classes = torch.randn(4, 3, 12, 12), torch.tensor([2, 0, 1, 1])
    maps = inspection.grad_cam_maps(model, images, classes)
    assert maps.shape == (4, 3, 3) and not maps.requires_grad and not images.requires_grad and not model.training

    z, last = model.embed(images), model.blocks[-1]
    for block in model.blocks[:-1]:
        z = block(z)
    for image, label in enumerate(classes):  # one at a time, by hand
        tokens = last.norm1(z[image : image + 1]).requires_grad_()
        y = z[image : image + 1] + last.msa(tokens)
        y = model.norm(y + last.mlp(last.norm2(y)))
        y = y[:, 0] if model.settings["pool"] == "token" else y.mean(dim=1)
        model.head(y)[0, label].backward()
        gradient, patches = tokens.grad[0, -9:], tokens[0, -9:]
        torch.testing.assert_close(maps[image].flatten(), (patches @ gradient.mean(dim=0)).relu())


def test_grad_cam_leaves_no_hook_behind_also_where_the_images_are_refused():
    model = ViT(**SIZES)
    inspection.grad_cam_maps(model, torch.randn(1, 3, 12, 12), torch.tensor([0]))
    with pytest.raises(ValueError, match="expected float images"):
        inspection.grad_cam_maps(model, torch.randn(1, 3, 8, 8), torch.tensor([0]))
    assert not model.blocks[-1].norm1._forward_hooks


def test_overlay_darkens_where_the_map_is_low():
    images = torch.full((2, 3, 8, 8), 1.0)
    images[:, 0] = -1  # no red
    maps = torch.tensor([[[4.0, 0.0], [4.0, 0.0]], [[2.0, 2.0], [2.0, 2.0]]])
    pixels = inspection.overlay(images, maps)
    assert pixels.shape == (2, 8, 8, 3) and pixels[..., 0].max() == 0
    assert pixels[0, :, :2, 1:].min() == 1 and pixels[0, :, -2:].max() == 0  # left light, right dark
    assert torch.equal(pixels[1], (images[1] * 0.5 + 0.5).permute(1, 2, 0))  # no differences: the image itself


# filters


def test_components_are_found_again():
    """Filters that are made of two patterns: the components are these two, by their share of the variance."""
    model = ViT(**SIZES)
    stripes, edge = torch.zeros(3, 4, 4), torch.zeros(3, 4, 4)
    stripes[:, ::2], stripes[:, 1::2], stripes[0, 0, 0] = -1, 1, -1.5
    edge[1, :, :2], edge[1, :, 2:] = 1.25, -1  # green alone, left against right
    edge -= stripes * (edge * stripes).sum() / (stripes * stripes).sum()
    strengths = torch.randn(24, 2)
    strengths -= strengths.mean(dim=0)
    strengths = torch.linalg.qr(strengths)[0] * torch.tensor([3.0, 1.0])
    patterns = torch.stack([stripes / stripes.norm(), edge / edge.norm()])
    with torch.no_grad():
        model.patch_embedding.projection.weight.copy_(strengths @ patterns.flatten(1) + torch.randn(48))  # and a mean
    components, shares = inspection.filter_components(model, count=4)
    torch.testing.assert_close(shares, torch.tensor([0.9, 0.1, 0, 0]))
    torch.testing.assert_close(components[0], -patterns[0])  # its largest entry, -1.5, is positive
    torch.testing.assert_close(components[1], patterns[1])


def test_components_see_a_patch_as_the_embedding_does():
    """Channel first: turned back into a row, a component is a direction of patchify's patches."""
    model, image = ViT(**SIZES), torch.randn(1, 3, 12, 12)
    components, _ = inspection.filter_components(model, count=24)
    corner = (components * image[0, :, :4, :4]).sum(dim=(1, 2, 3))
    torch.testing.assert_close(corner, components.flatten(1) @ patchify(image, 4)[0, 0])
    assert torch.linalg.svdvals(components.flatten(1)).sub(1).abs().max() < 1e-5  # orthogonal, of length 1


def test_more_components_than_there_are_is_an_error():
    for count in (0, 25):
        with pytest.raises(ValueError, match="there are 24 components"):
            inspection.filter_components(ViT(**SIZES), count)


# positions


@pytest.mark.parametrize("pool", ["token", "mean"])
def test_tiles_stand_where_their_patches_lie(pool):
    """The embedding of a patch has 1 at its row and 1 at its column: same place 1, same row or column a half."""
    model = ViT(**SIZES, pool=pool)
    with torch.no_grad():
        model.position_embedding.fill_(7.0)  # the class token's, which must not matter
        for patch in range(9):
            own = torch.zeros(24)
            own[patch // 3] = own[10 + patch % 3] = patch + 1.0  # another length for each
            model.position_embedding[0, patch - 9] = own
    similarity = inspection.position_similarity(model)
    rows, columns = torch.meshgrid(torch.arange(3), torch.arange(3), indexing="ij")
    for row in range(3):
        for column in range(3):
            expected = ((rows == row) * 0.5 + (columns == column) * 0.5)
            torch.testing.assert_close(similarity[row, column], expected)


def test_before_training_no_two_places_are_alike():
    torch.manual_seed(0)
    similarity = inspection.position_similarity(ViT(**{**SIZES, "hidden_size": 768})).flatten(2).flatten(0, 1)
    torch.testing.assert_close(similarity.diagonal(), torch.ones(9))
    assert (similarity - torch.eye(9)).abs().max() < 5 / math.sqrt(768)  # the cosines spread by 1 / sqrt(D)


# distances


def test_distances_on_two_by_two_patches():
    across = 16 * math.sqrt(2)
    expected = [[0, 16, 16, across], [16, 0, across, 16], [16, across, 0, 16], [across, 16, 16, 0]]
    torch.testing.assert_close(inspection.patch_distances(2, 16), torch.tensor(expected))


def test_neighbours_in_a_row_are_patches_after_another():
    distances = inspection.patch_distances(3, 4)
    assert distances[0, 1] == 4 and distances[2, 3] == 4 * math.sqrt(5)  # patch 3 begins the second row


@pytest.mark.parametrize("class_token", [0, 1])
def test_distance_of_known_attention(class_token):
    """Two heads on 3 x 3 patches: one looks at itself, the other at the first patch of all."""
    tokens = 9 + class_token
    itself, first = torch.eye(tokens), torch.zeros(tokens, tokens)
    first[:, class_token] = 1
    found = inspection.attention_distance([torch.stack([itself, first]).expand(5, 2, -1, -1)] * 3, grid=3, patch_size=4)
    mean = 4 * (0 + 1 + 2 + 1 + 2**0.5 + 5**0.5 + 2 + 5**0.5 + 8**0.5) / 9
    torch.testing.assert_close(found, torch.tensor([[0, mean]] * 3))


def test_even_attention_reaches_as_far_as_two_random_patches_lie_apart():
    found = inspection.attention_distance([torch.full((1, 1, 5, 5), 0.2)], grid=2, patch_size=16)
    torch.testing.assert_close(found, torch.tensor([[(16 + 16 + 16 * math.sqrt(2)) / 4]]))


def test_weight_on_the_class_token_does_not_count():
    plain = torch.rand(2, 3, 10, 10)
    plain = plain / plain.sum(dim=-1, keepdim=True)
    drawn = plain.clone() * 0.25
    drawn[..., 0] += 0.75  # every token gives three quarters of its weight to the class token
    torch.testing.assert_close(
        inspection.attention_distance([drawn], 3, 4), inspection.attention_distance([plain], 3, 4))


def test_distance_is_a_mean_over_images():
    given = random_attentions(tokens=10)
    one_by_one = [inspection.attention_distance([a[i : i + 1] for a in given], 3, 4) for i in range(2)]
    found = inspection.attention_distance(given, 3, 4)
    assert found.shape == (4, 3)
    torch.testing.assert_close(found, torch.stack(one_by_one).mean(dim=0))


@pytest.mark.parametrize("tokens", [5, 8])
def test_tokens_that_are_not_those_of_the_grid_are_an_error(tokens):
    with pytest.raises(ValueError, match=f"{tokens} tokens are not 2 x 3 patches"):
        inspection.attention_distance([torch.full((1, 1, tokens, tokens), 1 / tokens)], (2, 3), 4)


@pytest.mark.parametrize("pool", ["token", "mean"])
def test_maps_of_a_rectangle_have_its_rows_and_columns(pool):
    """On 2 x 3 patches, patch number 3 is the first of the second row."""
    model = ViT(**{**SIZES, "image_size": (8, 12)}, pool=pool)
    similarity = inspection.position_similarity(model)
    assert similarity.shape == (2, 3, 2, 3)
    places = model.position_embedding[0, -6:]
    torch.testing.assert_close(similarity[1, 0, 0, 2], torch.cosine_similarity(places[3], places[2], dim=0))

    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    images = torch.randn(2, 3, 8, 12)
    maps = inspection.rollout_maps(model, images)
    mixed = inspection.rollout(inspection.attentions(model, images))
    shares = mixed[:, 0, 1:] if pool == "token" else mixed.mean(dim=1)
    assert maps.shape == (2, 2, 3)
    torch.testing.assert_close(maps[:, 1, 0], shares[:, 3] / shares.sum(dim=1))
    assert inspection.overlay(images, maps).shape == (2, 8, 12, 3)


@pytest.mark.parametrize("class_token", [0, 1])
def test_distances_in_a_rectangle(class_token):
    distances = inspection.patch_distances((2, 3), 4)
    assert distances[0].tolist() == pytest.approx([0, 4, 8, 4, 4 * 2**0.5, 4 * 5**0.5])
    first = torch.zeros(6 + class_token, 6 + class_token)
    first[:, class_token] = 1
    found = inspection.attention_distance([first[None, None]], (2, 3), 4)
    assert found.item() == pytest.approx(distances[0].mean().item())


def test_attended_tokens_counts_those_that_share():
    alone, two, even = torch.eye(8), torch.zeros(8, 8), torch.full((8, 8), 1 / 8)
    two[:, :2] = 0.5
    found = inspection.attended_tokens([torch.stack([alone, two, even])[None].expand(2, -1, -1, -1)] * 2)
    torch.testing.assert_close(found, torch.tensor([[1.0, 2.0, 8.0]] * 2))
    one_query = inspection.attended_tokens([torch.full((1, 1, 1, 8), 1 / 8)])
    torch.testing.assert_close(one_query, torch.tensor([[8.0]]))


def test_the_measures_take_what_a_model_gives():
    model = ViT(**SIZES)
    given = inspection.attentions(model, torch.randn(2, 3, 12, 12))
    distance, tokens = inspection.attention_distance(given, model.grid, 4), inspection.attended_tokens(given)
    assert distance.shape == tokens.shape == (3, 3)
    assert 0 < distance.min() and distance.max() < 8 * math.sqrt(2) and 1 < tokens.min() and tokens.max() < 10
