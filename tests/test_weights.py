"""torchvision's weights give torchvision's numbers."""
import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer, vit_b_16

from going_modular import weights
from going_modular.vit import ViT
from going_modular.weights import WeightsError


def redraw(model: nn.Module) -> nn.Module:
    """torchvision starts with a head of zeros, which would hide everything: draw what is constant anew."""
    for parameter in model.parameters():
        if parameter.std() < 1e-5:
            nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.1)
    return model.eval()


def test_vit_b_16_has_the_same_logits_and_gradients():
    theirs = redraw(vit_b_16())
    ours = weights.load("B/16", theirs).eval()
    image = torch.randn(1, 3, 224, 224, requires_grad=True)
    expected = theirs(image)
    logits = ours(image)
    scale = expected.abs().max()
    assert ((logits - expected).abs().max() / scale).item() < 1e-5
    (gradient,) = torch.autograd.grad(logits.square().sum(), image)
    (expected_gradient,) = torch.autograd.grad(expected.square().sum(), image)
    assert ((gradient - expected_gradient).abs().max() / expected_gradient.abs().max()).item() < 1e-5


@pytest.fixture
def theirs():
    return redraw(VisionTransformer(32, 8, 12, 3, 192, 768, num_classes=7)).double()


def ours_of(source, **settings):
    return weights.load("Ti/8", source, **settings).double().eval()


def images(size=32):
    return torch.randn(2, 3, size, size, dtype=torch.double)


def test_a_state_dict_and_older_names(theirs):
    x = images()
    state = {name.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): tensor
             for name, tensor in theirs.state_dict().items()}
    torch.testing.assert_close(ours_of(state)(x), theirs(x), atol=1e-6, rtol=1e-6)


def test_a_given_model_is_filled_in_place(theirs):
    model = ViT.from_variant("Ti/8", image_size=32, num_classes=7).double().eval()
    assert weights.load(model, theirs) is model
    x = images()
    torch.testing.assert_close(model(x), theirs(x), atol=1e-12, rtol=1e-12)


def test_another_number_of_classes_gets_a_head_of_zeros(theirs):
    model = ours_of(theirs, num_classes=3)
    assert torch.equal(model(images()), torch.zeros(2, 3, dtype=torch.double))
    assert torch.equal(model.blocks[3].mlp.out.weight.float(), theirs.state_dict()[
        "encoder.layers.encoder_layer_3.mlp.3.weight"].float())


def test_a_pre_training_head_goes_as_a_whole_or_stays():
    theirs = redraw(VisionTransformer(32, 8, 12, 3, 192, 768, num_classes=7, representation_size=11)).double()
    x = images()
    torch.testing.assert_close(ours_of(theirs)(x), theirs(x), atol=1e-6, rtol=1e-6)
    assert ours_of(theirs, num_classes=3).settings["representation_size"] is None


def test_another_image_size_interpolates_the_positions(theirs):
    model = ours_of(theirs, image_size=56)
    assert model(images(56)).shape == (2, 7)
    old, new = theirs.encoder.pos_embedding[0], model.position_embedding[0]
    assert new.shape == (1 + 49, 192)
    for corner_old, corner_new in ((1, 1), (4, 7), (13, 43), (16, 49)):  # aligned corners stay, as does the class token
        torch.testing.assert_close(new[corner_new].float(), old[corner_old].float())
    torch.testing.assert_close(new[0].float(), old[0].float())
    torch.testing.assert_close(new[4].float(), ((old[2] + old[3]) / 2).float())  # halfway along the upper edge


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize("change, message", [
    (lambda s: without(s, "encoder.ln.bias"), "missing: norm.bias"),
    (lambda s: without(s, "heads.head.weight"), "missing: head.weight"),
    (lambda s: {**s, "extra.weight": torch.zeros(2)}, "left over: extra.weight"),
    (lambda s: {**s, "encoder.ln.bias": torch.zeros(5)}, r"norm.bias has the shape \[5\], the model's is \[192\]"),
    (lambda s: {"weight": torch.zeros(2)}, "unknown layout, with names such as weight"),
])
def test_what_does_not_fit_is_listed_and_nothing_changed(theirs, change, message):
    model = ViT.from_variant("Ti/8", image_size=32, num_classes=7)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(WeightsError, match=message):
        weights.load(model, change(theirs.state_dict()))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("variant, settings, message", [
    ("S/8", {}, "has the shape"), ("Ti/16", {}, "contradicts"), ("X/8", {}, "unknown variant"),
    ("Ti/8", {"image_size": 30}, "does not divide")])
def test_variants_that_do_not_fit(theirs, variant, settings, message):
    with pytest.raises(WeightsError, match=message):
        weights.load(variant, theirs, **settings)


def test_a_given_model_of_another_size_is_refused(theirs):
    model = ViT.from_variant("Ti/8", image_size=32, num_classes=3)
    with pytest.raises(WeightsError, match="num_classes is 3 in the model, 7 in the source"):
        weights.load(model, theirs)
    assert weights.load(model, theirs, num_classes=3) is model
    with pytest.raises(WeightsError, match="module or its state dict, not int"):
        weights.load(model, 3)
