"""The stored results of the experiments are those of the code as it is."""
import pytest
import torch

from going_modular.experiments import __main__ as command
from going_modular.experiments import architecture, fingerprint


@pytest.mark.parametrize("name", fingerprint.EXPERIMENTS)
def test_no_stored_result_is_stale(name):
    if name == "few_photos" and not hasattr(torch.optim, "Muon"):
        pytest.skip("PyTorch before 2.9 has no Muon")
    assert not fingerprint.is_stale(name), f"make it again: {fingerprint.EXPERIMENTS[name][1]}"


def test_what_changes_the_numbers_makes_a_result_stale(monkeypatch, tmp_path, capsys):
    only = {"architecture": fingerprint.EXPERIMENTS["architecture"]}
    monkeypatch.setattr(fingerprint, "EXPERIMENTS", only)
    monkeypatch.setattr(command, "EXPERIMENTS", only)
    monkeypatch.setattr(fingerprint, "STORED", tmp_path / "fingerprints.json")
    fingerprint.STORED.write_text("{}")
    fingerprint.store("architecture")
    assert command.main() == 0 and "as the code computes today" in capsys.readouterr().out
    setup = {**architecture.SETUPS["drawn_digits"], "lr": 4.1e-3}
    monkeypatch.setitem(architecture.SETUPS, "drawn_digits", setup)
    assert command.main() == 1 and "again by python -m benchmarks.architecture" in capsys.readouterr().out
