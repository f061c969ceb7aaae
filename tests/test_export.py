"""Export to ONNX: what another runtime computes is what PyTorch computes, or nothing is written."""
import json
import sys

import numpy as np
import pytest
import torch

from going_modular import export
from going_modular.vit import ViT


@pytest.fixture
def run(request, tmp_path):
    """The checkpoint of a tiny model, whose head is not zero."""
    model = ViT(image_size=(8, 12) if request.param == "mean" else 8, patch_size=4, in_channels=3, num_classes=3,
                num_layers=2, hidden_size=8, mlp_size=12, num_heads=2, pool=request.param)
    torch.nn.init.normal_(model.head.weight)
    torch.save({"model": model.state_dict(), "architecture": model.settings, "settings": {}, "epoch": 1,
                "class_names": ["pizza", "steak", "sushi"]}, tmp_path / "last.pt")
    return model.eval(), tmp_path


@pytest.mark.parametrize("run, options", [("token", ["--attention"]), ("mean", [])], indirect=["run"])
def test_onnx_runtime_computes_the_same_for_any_batch_or_nothing_is_written(run, options, capsys, monkeypatch):
    onnx, onnxruntime = map(pytest.importorskip, ("onnx", "onnxruntime"))
    model, folder = run
    file = folder / "model.onnx"
    arguments = [str(folder), str(file), *options]

    made = []  # the graph, which takes seconds to make, for both calls
    export_graph = torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", lambda *args, **options: made[0] if made else
                        made.append(export_graph(*args, **options)) or made[0])
    with monkeypatch.context() as patch:
        patch.setattr(export, "TOLERANCE", -1.0)
        assert export.main(arguments) == 2
    assert "nothing is written" in capsys.readouterr().err
    assert [file.name for file in folder.iterdir()] == ["last.pt"]
    assert export.main(arguments) == 0
    assert "opset 18" in capsys.readouterr().out

    session, images = onnxruntime.InferenceSession(file), torch.randn(3, *model.image_shape)
    names = [output.name for output in session.get_outputs()]
    found, seen = dict(zip(names, session.run(names, {"images": images.numpy()}))), {}
    with torch.no_grad():
        seen["logits"] = model(images, intermediates=seen)
    assert names == (["logits", "block00.attention", "block01.attention"] if options else ["logits"])
    for name in names:
        np.testing.assert_allclose(found[name], seen[name].numpy(), atol=1e-5)
    graph = onnx.load(file)
    assert graph.opset_import[0].version == 18
    assert json.loads(graph.metadata_props[0].value) == ["pizza", "steak", "sushi"]


@pytest.mark.parametrize("run", ["token"], indirect=True)
def test_without_the_extra_one_line_says_what_to_install(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert export.main([str(run[1]), str(run[1] / "model.onnx")]) == 2
    assert "pip install onnx onnxscript onnxruntime" in capsys.readouterr().err
