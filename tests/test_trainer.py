"""What a long run adds to each step: groups, schedule, clipping, averaging, checkpoints, resume."""
import csv
import errno

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset

from going_modular import data_setup, distributed
from going_modular import trainer as trainer_module
from going_modular.recipe import (
    Recipe,
    autocast,
    computing_dtype,
    parameter_groups,
    tensor_float_32,
    warmup_cosine,
)
from going_modular.trainer import (
    COLUMNS,
    Diverged,
    EpochMetrics,
    Stopped,
    Trainer,
    TrainingError,
    progress_bar,
    random_state,
    set_random_state,
)
from going_modular.utils import CheckpointError, load_model, read_checkpoint
from going_modular.vit import ViT

SIZES = {"image_size": 16, "patch_size": 8, "num_classes": 3, "num_layers": 2, "hidden_size": 24, "mlp_size": 48,
         "num_heads": 2}
needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch before 2.9 has no Muon")


@pytest.fixture
def make(colours, tmp_path):
    """Build a trainer on the colours; the same arguments give the same run."""
    data = data_setup.load(colours)

    def build(folder="run", recipe=None, drop_path=0.1, num_workers=0, compile=False, precision="auto", **fields):
        torch.manual_seed(3)
        model = ViT(**SIZES, drop_path=drop_path)
        kept, held_out = data_setup.split(data.train, 0.2, seed=0)
        loaders = [data_setup.make_loader(kept, data_setup.train_transform(16), 8, shuffle=True, seed=5,
                                          num_workers=num_workers),
                   *(data_setup.make_loader(part, data_setup.eval_transform(16), 8) for part in (held_out, data.test))]
        output = tmp_path / folder
        output.mkdir(exist_ok=True)
        recipe = recipe or Recipe(**{"epochs": 4, "lr": 3e-3, "mixup": 0.2, "ema": 0.9, **fields})
        return Trainer(model, loaders[0], recipe, torch.device("cpu"), class_names=data.class_names,
                       val_loader=loaders[1], test_loader=loaders[2], output=output, compile=compile,
                       precision=precision)

    return build


def resumed(trainer):
    """The trainer, after it has gone on to the end with the run in its folder."""
    trainer.resume()
    trainer.fit()
    return trainer


def test_weight_matrices_alone_decay():
    model = ViT(**SIZES, representation_size=10)
    decayed, others = parameter_groups(model, 0.3)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed_names = {names[id(parameter)] for parameter in decayed["params"]}
    assert decayed["weight_decay"] == 0.3 and others["weight_decay"] == 0
    in_block = {"msa.qkv.weight", "msa.out.weight", "mlp.hidden.weight", "mlp.out.weight"}
    assert decayed_names == {"patch_embedding.projection.weight", "pre_logits.0.weight", "head.weight"} | {
        f"blocks.{layer}.{name}" for layer in range(2) for name in in_block}
    assert len(decayed["params"]) + len(others["params"]) == len(names)


def test_schedule_rises_and_falls():
    shares = [warmup_cosine(step, 10, 110) for step in range(110)]
    assert shares[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert shares[10] == 1 and shares[60] == pytest.approx(0.5)
    assert all(a > b for a, b in zip(shares[10:], shares[11:])) and 0 < shares[-1] < 1e-3
    assert warmup_cosine(0, 0, 1) == 1


def test_a_run_learns_and_keeps_its_promises(make):
    trainer = make(epochs=12)
    history = trainer.fit()
    assert history[-1]["test_acc"] == 1
    with open(trainer.output / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == COLUMNS and [int(row["epoch"]) for row in rows] == list(range(1, 13))
    assert [float(row["test_loss"]) for row in rows] == [row["test_loss"] for row in history]
    assert max(row["lr"] for row in history) <= 3e-3 and history[-1]["lr"] < 3e-4
    model, info = load_model(trainer.output)
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(model(x), trainer.final_model.eval()(x)) and info.epoch == 12
    best = read_checkpoint(trainer.output / "best.pt")
    accuracies = [row["val_acc"] for row in history]
    assert accuracies[best["epoch"] - 1] == max(accuracies) and "training" not in best


def test_a_service_without_stdout_and_stderr_can_train(make, monkeypatch):
    """As pythonw on Windows runs a script."""
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("sys.stderr", None)
    assert len(make(epochs=1).fit()) == 1


def test_resume_gives_the_weights_of_the_uninterrupted_run(make, monkeypatch):
    whole = make("whole")
    whole.fit()
    broken = make("broken")
    step, calls = broken._step, []

    def interrupted(batches):
        calls.append(1)
        if len(calls) == 10:  # in the third epoch
            raise KeyboardInterrupt
        step(batches)

    monkeypatch.setattr(broken, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        broken.fit()
    again = resumed(make("broken"))
    for name, tensor in whole.final_model.state_dict().items():
        assert torch.equal(tensor, again.final_model.state_dict()[name]), name
    assert [row["train_loss"] for row in again.history] == [row["train_loss"] for row in whole.history]


@pytest.mark.parametrize("extra", [{"mixup": 0.0, "ema": 0.0}, {}, pytest.param({"muon": 0.02}, marks=needs_muon)],
                         ids=["plain", "mixup and average", "muon"])
@pytest.mark.parametrize("stop_after", [1, 3, 6, 11])  # an epoch has 4 steps
def test_a_stop_at_any_step_changes_nothing(make, stop_after, extra):
    whole = make("whole", **extra)
    whole.fit()
    broken = make("broken", **extra)
    broken.optimizer.register_step_post_hook(count_down(stop_after, broken.stop_soon))
    with pytest.raises(Stopped):
        broken.fit()
    again = resumed(make("broken", **extra))
    for name, tensor in whole.final_model.state_dict().items():
        assert torch.equal(tensor, again.final_model.state_dict()[name]), name
    for ours, theirs in zip(again.history, whole.history, strict=True):
        assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}


def count_down(steps, then):
    """A hook for an optimizer that calls `then` in its step of this number."""
    calls = []

    def hook(*_):
        calls.append(1)
        if len(calls) == steps:
            then()

    return hook


def weights_of(trainer):
    return torch.cat([tensor.flatten() for tensor in trainer.final_model.state_dict().values()])


def test_workers_change_nothing_and_neither_does_a_resume_with_them(make, monkeypatch):
    whole, broken = make("whole"), make("broken", num_workers=1)
    whole.fit()
    save = broken._save
    monkeypatch.setattr(broken, "_save", lambda: (save(), broken.stop_soon()))
    with pytest.raises(Stopped):
        broken.fit()
    again = resumed(make("broken", num_workers=1))
    assert len(broken.history) == 1 and torch.equal(weights_of(again), weights_of(whole))


@pytest.mark.parametrize("name", ["history.csv", "best.pt", "last.pt"])
def test_a_run_that_is_killed_between_two_files_ends_with_the_same_files(make, monkeypatch, name):
    class Killed(BaseException):
        pass

    def until(path, write):
        if path.name == name and broken.history[-1]["epoch"] == 4:
            raise Killed
        written(path, write)

    whole, broken, written = make("whole"), make("broken"), trainer_module.write_atomically
    whole.fit()
    whole_best = read_checkpoint(whole.output / "best.pt")
    monkeypatch.setattr(trainer_module, "write_atomically", until)
    with pytest.raises(Killed):
        broken.fit()
    monkeypatch.setattr(trainer_module, "write_atomically", written)
    again = resumed(make("broken"))
    best = read_checkpoint(again.output / "best.pt")
    assert best["epoch"] == whole_best["epoch"] and all(
        torch.equal(best["model"][part], whole_best["model"][part]) for part in best["model"])
    assert len((again.output / "history.csv").read_text().splitlines()) == 5


def test_a_checkpoint_that_takes_long_is_written_by_minutes(make, monkeypatch):
    """With B/16 last.pt is 1 GB: not after each of many short epochs. The best weights are kept all the same."""
    whole, slow = make("whole", epochs=6), make("slow", epochs=6)
    for run in (whole, slow):
        evaluate, accuracies = run.evaluate, iter([0.3, 0.9, 0.5, 0.4, 0.6, 0.2])
        run.evaluate = lambda part, evaluate=evaluate, accuracies=accuracies: (
            (1.0, next(accuracies)) if part == "val" else evaluate(part))
    whole.fit()
    written = []
    monkeypatch.setattr(slow, "_write", lambda files, write=slow._write: (written.append(list(files)), write(files)))
    save = slow._save

    def take_long():
        save()
        slow.save_seconds = 100.0

    monkeypatch.setattr(slow, "_save", take_long)
    slow.fit()
    assert written == [["history.csv", "best.pt", "last.pt"], *[["history.csv"]] * 4,
                       ["history.csv", "best.pt", "last.pt"]]
    for name in ("best.pt", "last.pt"):
        ours, theirs = (read_checkpoint(run.output / name) for run in (slow, whole))
        assert ours["epoch"] == theirs["epoch"] == (2 if name == "best.pt" else 6)
        assert all(torch.equal(ours["model"][part], theirs["model"][part]) for part in ours["model"])
        assert len(ours["history"]) == ours["epoch"]


def test_saving_takes_a_twentieth_of_the_time_at_most(make, monkeypatch):
    trainer, now = make(), [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    for save_seconds, waited, is_due in [(0.9, 0, True), (2, 39, False), (2, 41, True), (10, 199, False)]:
        trainer.save_seconds, trainer.saved_at = save_seconds, now[0] - waited
        assert trainer._saving_is_due() == is_due


def test_a_stop_saves_what_was_held(make, monkeypatch):
    trainer = make(epochs=5)
    monkeypatch.setattr(trainer, "_saving_is_due", lambda: False)
    trainer.optimizer.register_step_post_hook(count_down(10, trainer.stop_soon))  # in the third epoch
    with pytest.raises(Stopped):
        trainer.fit()
    best = max(range(2), key=lambda epoch: (trainer.history[epoch]["val_acc"], epoch))
    assert trainer.saved == (2, 2) and read_checkpoint(trainer.output / "best.pt")["epoch"] == best + 1


def test_resume_refuses_other_data(make):
    run = make("run")
    run.fit()
    renamed, smaller = make("run"), make("run")
    renamed.description["class_names"] = ["aaa", "blue", "green"]
    smaller.images_per_epoch -= 1
    for other in (renamed, smaller):
        with pytest.raises(CheckpointError, match="the data have changed since"):
            other.resume()
    (run.output / "best.pt").replace(run.output / "last.pt")
    with pytest.raises(CheckpointError, match="has a model alone, as best.pt does"):
        make("run").resume()


def test_resume_refuses_another_batch_size(make):
    run, images = make("run"), TensorDataset(torch.randn(24, 3, 16, 16), torch.arange(24) % 3)

    def with_batches_of(size):
        return Trainer(run.model, DataLoader(images, size), run.recipe, run.device, class_names=["a", "b", "c"],
                       output=run.output)

    with_batches_of(8).fit()
    with pytest.raises(CheckpointError, match="with 3 steps an epoch, and the training loader gives 6: use the same"):
        with_batches_of(4).resume()
    checkpoint = read_checkpoint(run.output / "last.pt")
    del checkpoint["steps_per_epoch"]  # as in checkpoints of before
    torch.save(checkpoint, run.output / "last.pt")
    with_batches_of(8).resume()


def test_resume_refuses_another_recipe_or_model(make):
    make("run").fit()
    with pytest.raises(CheckpointError, match=r"another recipe: lr 0.003 \(now 0.001\)"):
        make("run", lr=1e-3).resume()
    with pytest.raises(CheckpointError, match="another architecture: drop_path"):
        make("run", drop_path=0.5).resume()
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        make("empty").resume()


@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_checkpoint(make, poison):
    trainer = make()
    step = trainer._train_epoch

    def poisoned(epoch):
        if epoch == 2:
            if poison == "loss":
                trainer.model.head.bias.data.fill_(float("nan"))
            else:
                trainer.model.head.bias.register_hook(lambda gradient: gradient * float("inf"))
        return step(epoch)

    trainer._train_epoch = poisoned
    with pytest.raises(Diverged, match="is (nan|inf) in epoch 3, seen at step 1 of 4, at a learning rate of 0.00"):
        trainer.fit()
    model, info = load_model(trainer.output)
    assert info.epoch == 2 and all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("last", [False, True], ids=["within an epoch", "at its end"])
def test_weights_that_are_not_finite_are_never_saved(make, last):
    trainer = make(ema=0.0)

    def poison():
        trainer.model.head.bias.data.fill_(float("nan"))
        trainer.stop_soon()

    trainer.optimizer.register_step_post_hook(count_down(8 if last else 6, poison))  # an epoch has 4 steps
    with pytest.raises(Diverged):
        trainer.fit()
    for name in ("last.pt", "best.pt"):
        assert all(tensor.isfinite().all() for tensor in read_checkpoint(trainer.output / name)["model"].values())
    assert trainer.saved == (1, 0) == (load_model(trainer.output)[1].epoch, 0)


@pytest.mark.parametrize("error", [
    OSError(errno.ENOSPC, "No space left on device"), RuntimeError("PytorchStreamWriter failed writing file")])
def test_a_full_disk_costs_no_checkpoint(make, monkeypatch, error):
    trainer = make()
    save, calls = torch.save, []

    def full(value, file):
        calls.append(file)
        if len(calls) > 4:
            file.write_bytes(b"half")
            raise error
        save(value, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match=r"t\.pt can't be written \(.*\): make room and go on with --resume"):
        trainer.fit()
    monkeypatch.setattr(torch, "save", save)
    assert load_model(trainer.output)[1].epoch >= 2
    assert not [file for file in trainer.output.iterdir() if file.suffix == ".tmp"]


def test_precision_follows_the_card(monkeypatch):
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert computing_dtype(cuda) == torch.float16  # a T4 only emulates bfloat16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert computing_dtype(cuda) == torch.bfloat16 and computing_dtype(cpu) == torch.float32
    assert computing_dtype(cuda, "fp32") == torch.float32 and computing_dtype(cpu, "bf16") == torch.bfloat16
    with pytest.raises(ValueError, match="precision must be auto, fp32, fp16, bf16, not 'int8'"):
        computing_dtype(cpu, "int8")


@pytest.mark.parametrize("instructions, dtype", [
    ({"avx512_bf16": True}, torch.bfloat16), ({"amx_bf16": True, "avx512_bf16": False}, torch.bfloat16),
    ({"avx512_f": True, "avx512_bf16": False}, torch.float32), (None, torch.float32)])
def test_a_cpu_that_computes_in_bfloat16_does_so_for_models_that_gain(monkeypatch, make, instructions, dtype):
    if instructions is None:  # a PyTorch that does not tell
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    else:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions, raising=False)
    cpu = torch.device("cpu")
    assert computing_dtype(cpu, hidden_size=192) == dtype
    assert computing_dtype(cpu, hidden_size=191) == computing_dtype(cpu) == torch.float32
    assert computing_dtype(cpu, "fp32", hidden_size=768) == torch.float32
    assert computing_dtype(torch.device("mps"), hidden_size=768) == torch.float32
    monkeypatch.setattr("going_modular.recipe.BFLOAT16_FROM", 8)
    assert make().dtype == dtype  # the trainer tells the size of its model


def test_autocast_computes_in_its_type():
    layer, x = nn.Linear(64, 2), torch.randn(3, 64)
    with autocast(torch.device("cpu"), torch.float32):
        assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))
    with autocast(torch.device("cpu"), torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
        assert F.cross_entropy(layer(x), torch.zeros(3).long()).dtype == torch.float32


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_it_learns_in_mixed_precision(make, precision):
    trainer = make(epochs=12, precision=precision)
    assert trainer.fit()[-1]["test_acc"] == 1 and trainer.scaler.is_enabled() == (precision == "fp16")
    assert all(parameter.dtype == torch.float32 for parameter in trainer.model.parameters())


def test_a_step_that_overflows_is_left_out_and_is_no_divergence(make):
    trainer = make(epochs=2, precision="fp16", ema=0.0)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120)  # far too much for the first steps
    before = weights_of(trainer).clone()
    moved = []
    trainer.optimizer.register_step_post_hook(lambda *_: moved.append(not torch.equal(weights_of(trainer), before)))
    trainer.fit()
    assert trainer.scaler.get_scale() < 2.0**119 and trainer.schedule.last_epoch == 8  # each step counts
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())


def test_gradients_that_overflow_at_any_scale_end_the_run(make):
    trainer = make(precision="fp16")
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    trainer.model.head.bias.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(Diverged, match="overflow float16 whatever the loss is scaled by in epoch 1"):
        trainer.fit()


def test_the_scale_is_saved_and_restored(make):
    whole, broken = (make(name, precision="fp16") for name in ("whole", "broken"))
    for trainer in (whole, broken):
        trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, growth_interval=3)
    whole.fit()
    broken.optimizer.register_step_post_hook(count_down(6, broken.stop_soon))
    with pytest.raises(Stopped):
        broken.fit()
    again = make("broken", precision="fp16")
    again.scaler = torch.amp.GradScaler("cpu", growth_interval=3)
    again.resume()
    assert again.scaler.get_scale() == 2.0**14 and again.scaler.state_dict() == broken.scaler.state_dict()
    again.fit()
    assert torch.equal(weights_of(again), weights_of(whole))


def test_random_state_is_that_of_one_device(monkeypatch):
    class OtherDevice:
        state = torch.ones(3)
        get_rng_state = staticmethod(lambda: OtherDevice.state)
        set_rng_state = staticmethod(lambda state: setattr(OtherDevice, "state", state))

    monkeypatch.setattr(torch, "get_device_module", lambda device: OtherDevice)
    before = random_state(torch.device("mps"))
    drawn, OtherDevice.state = torch.rand(3), torch.zeros(3)
    set_random_state(before, torch.device("cuda"))  # goes on elsewhere: the state of an MPS means nothing to it
    assert torch.equal(torch.rand(3), drawn) and not OtherDevice.state.any()
    set_random_state(before, torch.device("mps"))
    assert OtherDevice.state.all() and set(random_state(torch.device("cpu"))) == {"cpu"}


def test_gradients_are_clipped(make):
    trainer, norms = make(clip_norm=0.01, epochs=1), []
    trainer.optimizer.register_step_pre_hook(lambda *_: norms.append(torch.stack(
        [parameter.grad.norm() for parameter in trainer.model.parameters()]).norm().item()))
    trainer.fit()
    assert norms == pytest.approx([0.01] * 4, rel=1e-3)


def test_the_running_average_is_what_is_kept(make):
    trainer = make(ema=0.9)
    trainer.fit()
    latest, kept = trainer.model.head.weight, trainer.final_model.head.weight
    assert not torch.equal(latest, kept) and torch.nn.functional.cosine_similarity(latest, kept).min() > 0.5


def test_the_loss_is_smoothed_for_training_alone(make):
    trainer = make(label_smoothing=0.2, mixup=0, ema=0, epochs=1, lr=1e-9)
    trainer.final_model.head.bias.data = torch.tensor([50.0, 0, 0])
    loss, accuracy = trainer.evaluate("test")
    assert accuracy == pytest.approx(1 / 3) and loss == pytest.approx(100 / 3, rel=0.05)
    (row,) = trainer.fit()  # a third of the images is right, and pays 0.2 * 2 / 3 of 50; the others 50 less as much
    assert row["train_loss"] == pytest.approx(100 / 3 + 0.2 * (2 / 3 * 50 / 3 - 50 / 3 * 2 / 3), rel=0.05)


def test_torch_compile(make, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    assert make(compile=True).trained is compiled[0]


def test_without_a_folder_or_other_loaders_it_trains_alone(make, monkeypatch):
    whole, alone = make(), make("alone")
    whole.fit()
    alone.output, alone.loaders = None, {"train": alone.loaders["train"]}
    history = alone.fit()
    assert torch.equal(weights_of(alone), weights_of(whole)) and not [*whole.output.parent.glob("alone/*")]
    assert set(history[-1]) == {"epoch", "train_loss", "train_acc", "lr", "seconds"}
    with pytest.raises(ValueError, match="a run without a folder can't be resumed"):
        alone.resume()


def test_checkpointing_computes_the_same(make):
    whole, lean = make(), make("lean")
    lean.model.checkpointing = True
    whole.fit()
    lean.fit()
    assert torch.equal(weights_of(lean), weights_of(whole))


def test_mixup_and_a_seed_of_its_own_reach_each_epoch(make, monkeypatch):
    plain, mixed = make(mixup=0.0), make("mixed", mixup=0.5)
    seeds, set_seeds = [], trainer_module.set_seeds
    monkeypatch.setattr(trainer_module, "set_seeds", lambda seed: seeds.append(seed) or set_seeds(seed))
    plain.fit()
    mixed.fit()
    assert not torch.equal(weights_of(plain), weights_of(mixed))
    assert len(set(seeds[:4])) == 4 and seeds[4:] == seeds[:4]  # dropout and mixup differ from epoch to epoch


def test_tensor_float_32_is_for_the_gpu_and_for_as_long_as_it_trains():
    before = torch.get_float32_matmul_precision()
    with tensor_float_32(torch.device("cpu")):
        assert torch.get_float32_matmul_precision() == before == "highest"
    with pytest.raises(KeyboardInterrupt), tensor_float_32(torch.device("cuda")):
        assert torch.get_float32_matmul_precision() == "high"
        raise KeyboardInterrupt
    assert torch.get_float32_matmul_precision() == before


def test_a_loader_of_ones_own_stops_at_the_end_of_an_epoch(make, colours):
    images = TensorDataset(torch.randn(24, 3, 16, 16), torch.arange(24) % 3)

    def build(folder):
        trainer = make(folder, mixup=0.0, ema=0.0)
        torch.manual_seed(1)
        return Trainer(trainer.model, DataLoader(images, 8, shuffle=True), trainer.recipe, trainer.device,
                       class_names=["a", "b", "c"], output=trainer.output)

    whole, broken = build("whole"), build("broken")
    whole.fit()
    broken.optimizer.register_step_post_hook(count_down(4, broken.stop_soon))  # the first of the second epoch
    with pytest.raises(Stopped):
        broken.fit()
    assert broken.saved == (2, 0)
    again = build("broken")
    assert torch.equal(weights_of(resumed(again)), weights_of(whole))


def test_loaders_and_recipes_that_can_not_be(make):
    trainer, images = make(), TensorDataset(torch.randn(4, 3, 16, 16), torch.zeros(4).long())
    arguments = trainer.model, DataLoader(images, 8, drop_last=True), Recipe(epochs=1), trainer.device
    with pytest.raises(ValueError, match="a loader gives no batch"):
        Trainer(*arguments)
    with pytest.raises(ValueError, match="give the trainer the class_names"):
        Trainer(trainer.model, DataLoader(images, 2), Recipe(epochs=1, mixup=0.2), trainer.device)
    batches = [(torch.randn(2, 3, 16, 16), torch.zeros(2).long())] * 3  # a list of batches is a loader, too
    (row,) = Trainer(trainer.model, batches, Recipe(epochs=1), trainer.device, test_loader=batches).fit()
    assert row["test_loss"] > 0

    class Short(list):
        def __iter__(self):
            return iter([*super().__iter__()][:2])

    with pytest.raises(ValueError, match="ended after 2 steps, where its length promises 3"):
        Trainer(trainer.model, Short(batches), Recipe(epochs=1), trainer.device).fit()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_probabilities_are_in_full_precision(make, precision):
    trainer = make(precision=precision)
    trainer.final_model.head.bias.data = torch.tensor([30.0, 0, 0])
    probabilities, _ = trainer.predict("test")
    assert probabilities.dtype == torch.float32 and (probabilities > 0).all()


def test_no_step_waits_for_the_device_where_nothing_is_shown(make, monkeypatch):
    class Reads(TorchDispatchMode):
        """Counts how often a number is read out of a tensor: on a GPU each of these would wait for it."""
        count = 0

        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            self.count += function is torch.ops.aten._local_scalar_dense.default
            return function(*arguments, **(options or {}))

    trainer, reads = make(epochs=1, mixup=0, ema=0), Reads()  # both read numbers that lie on the CPU
    step = trainer._step

    def watched(batches):
        with reads:
            step(batches)

    monkeypatch.setattr(trainer, "_step", watched)
    monkeypatch.setattr(trainer, "_show_progress", lambda images: None)  # reads on a CPU, as there it costs nothing
    trainer.fit()
    assert reads.count == 0
    with reads:
        trainer.metrics.loss.item()
    assert reads.count == 1


def test_a_process_that_has_no_image_yet_trains_on_and_sees_a_divergence(make, monkeypatch):
    """Resumed where only a last batch of one image is left, the second of two processes has counted none."""
    trainer = make()
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    monkeypatch.setattr(distributed, "size", lambda: 2)
    trainer.metrics, trainer.bar = EpochMetrics(trainer.device), progress_bar(trainer.device)
    trainer._show_progress(0)
    trainer.metrics.norm += float("nan")
    with pytest.raises(Diverged, match="the norm of the gradients is nan"):
        trainer._show_progress(0)


@pytest.mark.parametrize("fields, message", [
    ({"epochs": 0}, "epochs must be above 0, not 0"), ({"lr": -1.0}, "lr must be above 0"),
    ({"lr": float("nan")}, "lr must be above 0, not nan"), ({"clip_norm": 0}, "clip_norm must be above 0"),
    ({"warmup": 1.0}, "warmup must be at least 0 and below 1"), ({"ema": 1.0}, "ema must be"),
    ({"label_smoothing": -0.1}, "label_smoothing must be"), ({"weight_decay": -1}, "weight_decay must be at least 0"),
    ({"mixup": -1}, "mixup must be at least 0"), ({"muon": -1}, "muon must be at least 0")])
def test_recipes_that_make_no_sense(fields, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**{"epochs": 1, **fields})
