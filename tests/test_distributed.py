"""Several processes, on the CPU with gloo: the weights of one process, and what happens when one of them ends."""
import multiprocessing
import os
import signal
import subprocess
import sys
from functools import partial

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from going_modular import data_setup, distributed
from going_modular.datasets.loading import EpochSampler, MicroBatchSampler
from going_modular.recipe import Recipe
from going_modular.train import main
from going_modular.trainer import Stopped, Trainer
from going_modular.utils import load_model, read_checkpoint
from going_modular.vit import ViT

SIZES = {"image_size": 16, "patch_size": 8, "num_classes": 3, "num_layers": 2, "hidden_size": 24, "mlp_size": 48,
         "num_heads": 2}
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a fork server is needed")


def build(data: str, output, accumulation=1, shard=False, checkpointing=False, **fields) -> Trainer:
    """A trainer in float64 on the colours: 30 images to train, in batches of 8, so that the last one holds 6."""
    images = data_setup.load(data)
    torch.manual_seed(3)
    model = ViT(**SIZES).double()
    model.checkpointing = checkpointing
    kept, held_out = data_setup.split(images.train, 0.2, seed=0)
    view = data_setup.eval_transform(16)

    def double(image):
        return view(image).double()

    loaders = [data_setup.make_loader(kept, double, 8, shuffle=True, seed=5, gradient_accumulation=accumulation),
               *(data_setup.make_loader(part, double, 8) for part in (held_out, images.test))]
    output.mkdir(exist_ok=True)
    recipe = Recipe(**{"epochs": 3, "lr": 3e-3, **fields})
    return Trainer(model, loaders[0], recipe, torch.device("cpu"), class_names=images.class_names,
                   val_loader=loaders[1], test_loader=loaders[2], output=output, shard=shard)


def fit(data, output, resume=False, stop_after=None, **options):
    trainer = build(data, output, **options)
    if resume:
        trainer.resume()
    if stop_after and distributed.rank() == distributed.size() - 1:  # a signal that reaches the last process alone
        trainer.optimizer.register_step_post_hook(
            lambda *_: trainer.stop_soon() if trainer.schedule.last_epoch == stop_after - 1 else None)
    try:
        trainer.fit()
    except Stopped:
        assert stop_after
    else:
        assert not stop_after


def process(rank: int, size: int, folder, work) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    work()
    dist.destroy_process_group()


def in_processes(size: int, folder, work) -> None:
    """Run `work` in so many processes, connected with one another."""
    (folder / "meeting").unlink(missing_ok=True)
    # From a process that does nothing else: the threads and locks of this one do not survive a fork.
    multiprocessing.set_forkserver_preload(["going_modular.train", "pytest", "torch.distributed.fsdp"])
    mp.start_processes(process, (size, folder, work), nprocs=size, start_method="forkserver")


def weights(folder) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / "last.pt")["model"]


def assert_same(ours, theirs):
    for name, tensor in weights(theirs).items():
        torch.testing.assert_close(weights(ours)[name], tensor, atol=1e-10, rtol=0, msg=name)


@pytest.fixture(scope="module")
def alone(colours, tmp_path_factory):
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    fit(colours, folder)
    return folder


@pytest.mark.parametrize("size, steps", [(1, 3), (2, 1), (2, 2), (4, 1), (4, 2)])
def test_micro_batches_make_up_the_batches(monkeypatch, size, steps):
    whole = [[index for _, index in batch] for batch in MicroBatchSampler(EpochSampler(13, seed=1), 8)]
    dealt, counts = [[], []], [[], []]
    monkeypatch.setattr(distributed, "size", lambda: size)
    for rank in range(size):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        batches = MicroBatchSampler(EpochSampler(13, seed=1), 8, steps)
        assert len(list(batches)) == len(batches) == 2 * steps
        batches.set_epoch(0)
        for number, batch in enumerate(batches):
            count, of_batch = batches.images(number)
            assert of_batch == (8, 5)[number // steps] and len(batch) >= max(count, 1)
            dealt[number // steps] += [index for _, index in batch[:count]]
            counts[number // steps].append(count)
    assert [sorted(batch) for batch in dealt] == [sorted(batch) for batch in whole]
    assert [sum(of_one) for of_one in counts] == [8, 5]


def test_a_batch_too_small_to_be_shared():
    with pytest.raises(ValueError, match="a batch of 2 images can't be cut into 3 micro-batches"):
        MicroBatchSampler(EpochSampler(10, seed=0), 2, gradient_accumulation=3)


@pytest.mark.parametrize("options", [{"accumulation": 2}, {"accumulation": 4}, {"checkpointing": True}], ids=str)
def test_accumulation_and_checkpointing_change_nothing(colours, tmp_path, alone, options):
    fit(colours, tmp_path / "run", **options)
    assert_same(tmp_path / "run", alone)


@pytest.mark.parametrize("size, options", [(2, {}), (4, {}), (2, {"accumulation": 2}), (2, {"shard": True}),
                                           (2, {"shard": True, "accumulation": 2})], ids=str)
def test_several_processes_make_the_weights_of_one(colours, tmp_path, alone, size, options):
    in_processes(size, tmp_path, partial(fit, colours, tmp_path / "run", **options))
    assert_same(tmp_path / "run", alone)
    ours, theirs = (read_checkpoint(folder / "last.pt")["history"] for folder in (tmp_path / "run", alone))
    for row, expected in zip(ours, theirs, strict=True):
        assert {**row, "seconds": 0} == pytest.approx({**expected, "seconds": 0}, abs=1e-6)  # summed in float32


@pytest.mark.parametrize("first, then", [((2, {}), (4, {})), ((4, {}), (1, {})), ((2, {"shard": True}), (1, {})),
                                         ((1, {}), (2, {"shard": True}))], ids=str)
def test_a_run_goes_on_with_another_number_of_processes(colours, tmp_path, alone, first, then):
    for (size, options), resume in ((first, False), (then, True)):
        work = partial(fit, colours, tmp_path / "run", resume, stop_after=None if resume else 6, **options)
        in_processes(size, tmp_path, work)
    assert_same(tmp_path / "run", alone)


def count_weights(colours, output):
    trainer = build(colours, output, shard=True)
    own = sum(parameter.to_local().numel() for parameter in trainer.model.parameters())
    assert own == pytest.approx(sum(parameter.numel() for parameter in ViT(**SIZES).parameters()) / 2, rel=0.1)


def test_each_process_holds_its_share_of_the_weights(colours, tmp_path):
    in_processes(2, tmp_path, partial(count_weights, colours, tmp_path / "run"))


def test_several_processes_refuse_a_loader_that_does_not_share(colours, tmp_path, monkeypatch):
    trainer = build(colours, tmp_path / "run")
    loader = torch.utils.data.DataLoader(trainer.loaders["train"].dataset, 8)
    monkeypatch.setattr(distributed, "size", lambda: 2)
    with pytest.raises(ValueError, match="need the loaders of data_setup.make_loader"):
        Trainer(trainer.model, loader, trainer.recipe, trainer.device, class_names=["a", "b", "c"])


def test_after_an_error_nobody_waits_for_the_others(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    farewells = []
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: farewells.append(1))
    assert main(["--device", "abacus"]) == 2 and not farewells
    with distributed.connected():
        pass
    assert farewells


def test_what_sharding_can_not_do(colours, tmp_path, monkeypatch, capsys):
    with pytest.raises(ValueError, match="start them by torchrun"):
        build(colours, tmp_path / "run", shard=True)
    monkeypatch.setattr(distributed, "size", lambda: 2)
    with pytest.raises(ValueError, match="no running average"):
        build(colours, tmp_path / "run", shard=True, ema=0.9)
    assert main(["--shard", "--ema", "0.9"]) == 2 and "no running average" in capsys.readouterr().err


def test_a_process_that_dies_ends_the_run_which_then_goes_on(colours, tmp_path):
    options = ["--data", str(colours), "--output", str(tmp_path / "run"), "--epochs", "60", "--image-size", "16",
               "--patch-size", "8", "--layers", "1", "--hidden-size", "24", "--heads", "2", "--mlp-size", "48",
               "--repeats", "1", "--batch-size", "8", "--device", "cpu", "--drop-path", "0", "--mixup", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m",
         "going_modular.train", *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"})
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("epoch"):
            break
    children = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "going_modular.train"], capture_output=True,
                              text=True).stdout.split()
    assert len(children) == 2, said
    os.kill(int(children[1]), signal.SIGKILL)
    rest, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "error: process 0: another process of this run has ended" in rest and "--resume" in rest
    assert 1 <= load_model(tmp_path / "run")[1].epoch < 60
    assert main(["--output", str(tmp_path / "run"), "--device", "cpu", "--resume"]) == 0
    assert load_model(tmp_path / "run")[1].epoch == 60
