"""Weights as people have them: modules that compute otherwise, files that wrap them, and heads of all kinds."""
from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer

from benchmarks import parity
from going_modular import weights
from going_modular.vit import ViT
from going_modular.weights import WeightsError

timm = pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")

SIZES = {"patch_size": 8, "num_layers": 2, "hidden_size": 48, "mlp_size": 96, "num_heads": 3}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def images(channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, 32, 32)


def of_timm(**options) -> nn.Module:
    return parity.timm_model(32, SIZES, **options)


def of_torchvision() -> nn.Module:
    return parity.redraw(VisionTransformer(32, 8, 2, 3, 48, 96, num_classes=7))


def of_transformers(**options) -> nn.Module:
    config = transformers.ViTConfig(image_size=32, patch_size=8, num_hidden_layers=2, num_attention_heads=3,
                                    hidden_size=48, intermediate_size=96, num_labels=10, **options)
    return parity.redraw(transformers.ViTForImageClassification(config))


def ours(**options) -> ViT:
    return ViT(**{"image_size": 32, "num_classes": 10, **SIZES, **options}).eval()


# ---------------------------------------------------------------------------------------------------------------------
# What a module computes with is read, and equal or refused


@pytest.mark.parametrize("activation, form", [
    ("gelu", "erf"), ("gelu_python", "erf"), ("gelu_new", "tanh"), ("gelu_pytorch_tanh", "tanh"),
    ("gelu_fast", "tanh")])
def test_an_activation_of_transformers_that_we_have_gives_equal_logits(activation, form):
    theirs, x = of_transformers(hidden_act=activation), images()
    model = weights.load(ours(gelu=form, layer_norm_eps=1e-12), theirs)
    torch.testing.assert_close(model(x), theirs(x).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("activation, name", [
    ("relu", "ReLU"), ("quick_gelu", "QuickGELUActivation"), ("silu", "SiLUActivation")])
def test_another_activation_of_transformers_is_refused_by_name(activation, name):
    with pytest.raises(WeightsError, match=f"activation is {name}; a ViT of ours has GELU"):
        weights.load(ours(layer_norm_eps=1e-12), of_transformers(hidden_act=activation))


@pytest.mark.parametrize("activation, form", [("gelu", "erf"), ("gelu_tanh", "tanh")])
def test_an_activation_of_timm_that_we_have_gives_equal_logits(activation, form):
    theirs, x = of_timm(act_layer=activation), images()
    torch.testing.assert_close(weights.load(ours(gelu=form), theirs)(x), theirs(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU, nn.PReLU, timm.layers.QuickGELU])
def test_another_activation_of_timm_is_refused(activation):
    theirs = of_timm()
    theirs.blocks[1].mlp.act = activation()
    with pytest.raises(WeightsError, match=f"the module's activation is {activation.__name__}; a ViT of ours has GELU"):
        weights.load(ours(), theirs)


def test_an_activation_that_was_exchanged_in_torchvision_is_refused():
    theirs = of_torchvision()
    theirs.encoder.layers[1].mlp[1] = nn.ReLU()
    with pytest.raises(WeightsError, match="activation is ReLU"):
        weights.load(ours(num_classes=7), theirs)
    theirs.encoder.layers[1].mlp[1] = nn.GELU(approximate="tanh")
    with pytest.raises(WeightsError, match="differ in gelu: erf, tanh"):
        weights.load(ours(num_classes=7), theirs)


def test_a_mean_of_patches_without_a_class_token_gives_equal_logits():
    theirs, x = of_timm(global_pool="avg", class_token=False, fc_norm=False), images()
    torch.testing.assert_close(weights.load(ours(pool="mean"), theirs)(x), theirs(x), atol=1e-5, rtol=1e-5)
    with pytest.raises(WeightsError, match="pool is token in the model, mean in the source"):
        weights.load(ours(), theirs)


@pytest.mark.parametrize("options, message", [
    ({"global_pool": "avg"}, "pools by 'avg' beside a class token"),
    ({"global_pool": "max"}, "pools by 'max' beside a class token"),
    ({"global_pool": ""}, "pools by '' beside a class token"),
    ({"global_pool": "max", "class_token": False}, "pools by 'max' without a class token"),
    ({"global_pool": "avgmax", "class_token": False}, "pools by 'avgmax' without a class token")])
def test_another_pooling_is_refused_by_name(options, message):
    theirs = of_timm(**options, fc_norm=False)
    with pytest.raises(WeightsError, match=message):
        weights.load(ours(pool="token" if options.get("class_token", True) else "mean"), theirs)


@pytest.mark.parametrize("theirs", [partial(of_timm, qkv_bias=False), partial(of_transformers, qkv_bias=False)])
def test_without_biases_of_queries_keys_and_values_logits_are_equal(theirs):
    theirs, x = theirs(), images()
    eps = 1e-12 if hasattr(theirs, "config") else 1e-6
    expected = theirs(x).logits if hasattr(theirs, "config") else theirs(x)
    model = weights.load(ours(layer_norm_eps=eps), theirs)
    torch.testing.assert_close(model(x), expected, atol=1e-5, rtol=1e-5)


def test_one_missing_bias_is_no_model_without_biases():
    state = of_timm().state_dict()
    del state["blocks.0.attn.qkv.bias"]
    with pytest.raises(WeightsError, match="missing: blocks.0.attn.qkv.bias"):
        weights.load(ours(), state)
    state = {name: tensor for name, tensor in of_transformers().state_dict().items() if "q_proj.bias" not in name}
    with pytest.raises(WeightsError, match="missing: vit.encoder.layer.0.attention.attention.query.bias"):
        weights.load(ours(), state)


def test_blocks_and_patches_that_a_vit_does_not_have_are_refused():
    with pytest.raises(WeightsError, match="ResPostBlock, with LayerNorm behind"):
        weights.load(ours(), of_timm(block_fn=timm.models.vision_transformer.ResPostBlock))
    theirs = of_timm()
    theirs.patch_embed.proj.stride = (4, 4)
    with pytest.raises(WeightsError, match="patches overlap"):
        weights.load(ours(), theirs)
    theirs = of_timm()
    theirs.blocks[1].norm2.eps = 1e-5
    with pytest.raises(WeightsError, match="blocks differ in layer_norm_eps: 1e-06, 1e-05"):
        weights.load(ours(), theirs)


# ---------------------------------------------------------------------------------------------------------------------
# What a source does not say


def test_a_given_model_keeps_what_a_state_dict_does_not_say():
    theirs, x = of_transformers(layer_norm_eps=1e-6, hidden_act="gelu_new"), images()
    model = weights.load(ours(gelu="tanh"), theirs.state_dict())
    torch.testing.assert_close(model(x), theirs(x).logits, atol=1e-5, rtol=1e-5)
    pooled = of_timm(global_pool="avg", class_token=False, fc_norm=False)
    torch.testing.assert_close(weights.load(ours(pool="mean"), pooled.state_dict())(x), pooled(x), atol=1e-5, rtol=1e-5)


def test_a_model_that_is_built_says_what_was_assumed(capsys):
    theirs = parity.TransformersModel(32, {**SIZES, "num_layers": 12, "hidden_size": 192, "mlp_size": 768}).model
    model = weights.load("Ti/8", theirs.state_dict())
    assert model.settings["layer_norm_eps"] == 1e-12 and model.settings["gelu"] == "erf"
    assert capsys.readouterr().out == ("weights of the state dict: what they do not say was assumed: gelu erf, "
                                       "layer_norm_eps 1e-12, num_heads 3\n")
    weights.load("Ti/8", theirs)  # a module says all
    assert capsys.readouterr().out == ""


# ---------------------------------------------------------------------------------------------------------------------
# Wrappers


def lightning(state):
    return {"state_dict": {f"model.{name}": tensor for name, tensor in state.items()}
            | {"criterion.weight": torch.ones(3)}, "epoch": 3, "optimizer_states": [{"state": {0: {}}}]}


def prefixed(prefix):
    return lambda state: {prefix + name: tensor for name, tensor in state.items()}


WRAPPERS = {
    "compiled": (prefixed("_orig_mod."), "_orig_mod."),
    "module": (prefixed("module."), "module."),
    "modules": (prefixed("module.module._orig_mod."), "module.module._orig_mod."),
    "lightning": (lightning, "state_dict/model., without 1 other tensors"),
    "lightning-net": (lambda state: {"state_dict": prefixed("net.")(state)}, "state_dict/net."),
    "backbone": (prefixed("backbone."), "backbone."),
    "teacher": (lambda state: {"teacher": prefixed("backbone.")(state), "epoch": 1}, "teacher/backbone."),
    "averaged": (lambda state: {"n_averaged": torch.tensor(3), **prefixed("module.")(state)},
                 "module., without 1 other tensors"),
    "net": (lambda state: {"net": state}, "net/"),
    "network": (lambda state: {"network": state, "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}}}, "network/"),
    "ema": (lambda state: {"ema": {"model": state}}, "ema/model/"),
}


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("kind", ["timm", "transformers", "official"])
def test_a_wrapper_is_taken_off_and_told(name, kind, tmp_path, capsys):
    wrap, told = WRAPPERS[name]
    model, x = parity.redraw(ours(**weights.LAYOUTS[kind].default_settings)), images()
    state = {}
    for ours_name, tensor in model.state_dict().items():
        state |= weights.LAYOUTS[kind].write(ours_name, tensor, model.settings)
    torch.save(wrap(state), tmp_path / "w.pth")
    again = weights.load(ours(**weights.LAYOUTS[kind].default_settings), tmp_path / "w.pth")
    assert torch.equal(again(x), model(x))
    assert f"taken are those under {told}" in capsys.readouterr().out


def test_a_module_that_holds_the_model_is_one_too():
    class Wrapped(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net, self.criterion = net, nn.Linear(2, 2)

    x = images()
    for theirs, form in ((of_timm(act_layer="gelu_tanh"), "tanh"), (of_transformers(layer_norm_eps=1e-6), "erf")):
        expected = theirs(x)
        for module in (Wrapped(theirs), nn.DataParallel(theirs), torch.compile(theirs),
                       torch.optim.swa_utils.AveragedModel(theirs)):
            model = weights.load(ours(gelu=form), module)
            torch.testing.assert_close(model(x), getattr(expected, "logits", expected), atol=1e-5, rtol=1e-5)
            with pytest.raises(WeightsError, match="gelu is"):
                weights.load(ours(gelu="tanh" if form == "erf" else "erf"), module)


def test_two_models_in_a_file_are_named_and_one_is_chosen(tmp_path):
    student, teacher, x = of_timm(), of_timm(), images()
    state = {"student": prefixed("module.backbone.")(student.state_dict()),
             "teacher": prefixed("backbone.")(teacher.state_dict())}
    file = tmp_path / "dino.pth"
    torch.save(state, file)
    with pytest.raises(WeightsError, match="dino.pth holds 2 ViTs, student/module.backbone. and teacher/backbone.: "
                                           "choose one, of a file by FILE#student/module.backbone, else"):
        weights.load(ours(), file)
    torch.testing.assert_close(weights.load(ours(), f"{file}#teacher")(x), teacher(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weights.load(ours(), f"{file}#student/module")(x), student(x), atol=1e-5, rtol=1e-5)
    with pytest.raises(WeightsError, match="has no part 'teach' with a ViT in it, only student/module"):
        weights.load(ours(), f"{file}#teach")
    torch.testing.assert_close(weights.load(ours(), state["teacher"])(x), teacher(x), atol=1e-5, rtol=1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# Heads


@pytest.mark.parametrize("library, attribute", [
    (of_torchvision, "heads"), (of_timm, "head"), (of_transformers, "classifier")])
@pytest.mark.parametrize("head", [
    lambda: nn.Linear(48, 4), lambda: nn.Sequential(nn.Dropout(0.2), nn.Linear(48, 4)),
    lambda: nn.Sequential(nn.Linear(48, 4))])
def test_a_head_that_was_put_in_place_of_the_librarys(library, attribute, head):
    theirs, x = library(), images()
    setattr(theirs, attribute, head())
    parity.redraw(theirs)
    options = {"layer_norm_eps": 1e-12} if library is of_transformers else {}
    expected = theirs(x)
    for source in (theirs, theirs.state_dict()):
        model = weights.load(ours(num_classes=4, **options), source)
        torch.testing.assert_close(model(x), getattr(expected, "logits", expected), atol=1e-5, rtol=1e-5)
        fresh = weights.load(ours(num_classes=9, **options), source, num_classes=9)
        assert torch.equal(fresh(x), torch.zeros(2, 9))


def test_a_head_of_several_layers_is_refused_or_replaced_as_a_whole():
    theirs = of_torchvision()
    theirs.heads = nn.Sequential(nn.Linear(48, 20), nn.ReLU(), nn.Linear(20, 4))
    with pytest.raises(WeightsError, match="head holds ReLU: say how many classes a fresh one is for"):
        weights.load(ours(num_classes=4), theirs)
    with pytest.raises(WeightsError, match="no head of one linear layer .*num_classes="):
        weights.load(ours(num_classes=4), theirs.state_dict())
    for source in (theirs, theirs.state_dict()):
        assert torch.equal(weights.load(ours(num_classes=4), source, num_classes=4)(images()), torch.zeros(2, 4))
    theirs.heads = nn.Sequential(nn.Linear(48, 4), nn.Sigmoid())
    for num_classes in (None, 4):
        with pytest.raises(WeightsError, match="head holds Sigmoid"):
            weights.load(ours(num_classes=4), theirs, num_classes=num_classes)


# ---------------------------------------------------------------------------------------------------------------------
# Models of tutorials


class LearnPyTorch(nn.Module):
    """The ViT of the course learnpytorch.io, by its names."""

    def __init__(self):
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(1, 1, 48))
        self.position_embedding = nn.Parameter(torch.randn(1, 17, 48))
        self.patch_embedding = nn.Module()
        self.patch_embedding.patcher = nn.Conv2d(3, 48, 8, stride=8)
        self.transformer_encoder = nn.Sequential(*(nn.Module() for _ in range(2)))
        for block in self.transformer_encoder:
            block.msa_block, block.mlp_block = nn.Module(), nn.Module()
            block.msa_block.layer_norm = nn.LayerNorm(48)
            block.msa_block.multihead_attn = nn.MultiheadAttention(48, 3, batch_first=True)
            block.mlp_block.layer_norm = nn.LayerNorm(48)
            block.mlp_block.mlp = nn.Sequential(nn.Linear(48, 96), nn.GELU(), nn.Dropout(), nn.Linear(96, 48))
        self.classifier = nn.Sequential(nn.LayerNorm(48), nn.Linear(48, 3))

    def forward(self, x):
        x = self.patch_embedding.patcher(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), -1, -1), x], dim=1) + self.position_embedding
        for block in self.transformer_encoder:
            y = block.msa_block.layer_norm(x)
            x = block.msa_block.multihead_attn(y, y, y, need_weights=False)[0] + x
            x = block.mlp_block.mlp(block.mlp_block.layer_norm(x)) + x
        return self.classifier(x[:, 0])


def test_the_model_of_the_best_known_course():
    theirs, x = parity.redraw(LearnPyTorch()), images()
    model = weights.load(None, theirs).eval()
    assert model.settings["layer_norm_eps"] == 1e-5 and model.settings["num_classes"] == 3
    torch.testing.assert_close(model(x), theirs(x), atol=1e-5, rtol=1e-5)
    assert torch.equal(weights.load(None, theirs, num_classes=5)(x), torch.zeros(2, 5))
    of_a_file = weights.load(None, theirs.state_dict(), num_heads=3)
    assert of_a_file.settings == model.settings
    assert of_a_file.preprocessing.mean == (0, 0, 0) and of_a_file.preprocessing.std == (1, 1, 1)  # no normalisation


def test_a_model_of_vit_pytorch_is_refused_by_name():
    with pytest.raises(WeightsError, match="LayerNorms about the patch embedding, as in vit-pytorch"):
        weights.load(ours(), {"to_patch_embedding.1.weight": torch.zeros(3), "cls_token": torch.zeros(1, 1, 3)})
