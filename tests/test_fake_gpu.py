"""The fake GPU behaves as a GPU does; the package trains on it; and it shows the mistakes that only a GPU would."""
import copy
import io
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fake_gpu import CARDS, fake_gpu
from test_train import QUICK
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision.transforms import v2

from going_modular import data_setup, engine
from going_modular.paper import probe
from going_modular.predictions import predict_all
from going_modular.recipe import Recipe
from going_modular.train import main
from going_modular.trainer import Stopped, Trainer
from going_modular.utils import load_model, pick_device
from going_modular.vit import ViT, count_macs

CUDA = torch.device("cuda")
SIZES = {"image_size": 16, "patch_size": 8, "num_classes": 3, "num_layers": 2, "hidden_size": 24, "mlp_size": 48,
         "num_heads": 2}
ON_GPU = [*QUICK, "--device", "cuda", "--model", "Mini"]  # a GPU would get B/16
both_cards = pytest.mark.parametrize("gpu", CARDS, indirect=True)


# ---------------------------------------------------------------------------------------------------------------------
# It behaves as a GPU does


@pytest.mark.parametrize("create", [
    lambda: torch.empty(2, device="cuda"), lambda: torch.zeros(2, device=CUDA), lambda: torch.randn(2, device="cuda:0"),
    lambda: torch.tensor([1.0, 2.0], device="cuda"), lambda: torch.as_tensor(np.ones(2), device="cuda"),
    lambda: torch.arange(2, device="cuda"), lambda: torch.ones(2).to("cuda"), lambda: torch.ones(2).cuda(),
    lambda: torch.ones(2).to("cuda", torch.float16, non_blocking=True),
    lambda: torch.ones(2).to(torch.zeros(1, device="cuda")), lambda: torch.zeros_like(torch.ones(2), device="cuda"),
    lambda: torch.zeros(1, device="cuda").new_ones(2), lambda: torch.ones(2, device="cuda").double()[1:].sum() * 2])
def test_tensors_are_made_on_it(gpu, create):
    tensor = create()
    assert tensor.device == torch.device("cuda:0") and tensor.is_cuda and not tensor.is_cpu and gpu.waits == 0
    assert tensor.get_device() == 0 and type(tensor) is torch.Tensor and "device='cuda:0'" in repr(tensor)
    assert tensor.cpu().device.type == "cpu" and tensor.to("cpu").is_cpu and tensor.to("cuda") is tensor


def test_the_default_device_can_be_the_gpu(gpu):
    with torch.device("cuda"):
        assert torch.zeros(1).is_cuda and torch.tensor([1]).is_cuda and nn.Linear(2, 2).weight.is_cuda
    assert torch.zeros(1).is_cpu and torch.tensor([1]).is_cpu


@pytest.mark.parametrize("mix", [
    lambda x: x + torch.ones(3), lambda x: x @ torch.ones(3), lambda x: torch.stack([x[0], torch.tensor(1.0)]),
    lambda x: torch.tensor(1.0).add_(x[0]), lambda x: torch.ones(3)[x.long()], lambda x: nn.Linear(3, 3)(x),
    lambda x: F.cross_entropy(x[None], torch.tensor([0]))])
def test_it_refuses_tensors_of_the_cpu(gpu, mix):
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device, but found at least two"):
        mix(torch.ones(3, device="cuda"))


def test_single_numbers_and_indices_may_lie_on_the_cpu(gpu):
    x = torch.ones(3, device="cuda")
    assert (x * torch.tensor(2.0)).sum() == 6 and torch.where(x > 0, x, torch.tensor(0.0)).is_cuda
    x[1] = torch.tensor(2.0)
    assert x[torch.tensor([0, 1])].tolist() == [1, 2]


def test_it_refuses_to_become_numpy(gpu):
    x = torch.ones(3, device="cuda")
    for convert in (lambda: x.numpy(), lambda: np.asarray(x)):
        with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()"):
            convert()
    assert np.asarray(x.cpu()).sum() == 3


@pytest.mark.parametrize("wait", [
    lambda x: x[0].item(), lambda x: x.tolist(), lambda x: x.cpu(), lambda x: x.to("cpu", torch.float64),
    lambda x: bool(x[0] > 0), lambda x: float(x[0]), lambda x: x.nonzero(), lambda x: x[x > 0], lambda x: x.unique(),
    lambda x: torch.equal(x, x), lambda x: torch.zeros(3).copy_(x), lambda x: f"{x[0]:.2f}",
    lambda x: x.repeat_interleave(x.long()), lambda x: torch.cuda.synchronize()])
def test_it_counts_what_waits_for_it(gpu, wait):
    wait(torch.ones(3, device="cuda"))
    assert gpu.waits == 1


def test_what_does_not_wait_is_not_counted(gpu):
    x = torch.ones(3, device="cuda", requires_grad=True)
    (x[1:].view(2, 1) * 2 + 1).pow(2).sum().backward()
    x.detach()[x > 0] = 1.0
    F.one_hot(x.detach().long(), 3)
    x.detach().to("cpu", non_blocking=True)
    assert gpu.waits == 0


def test_it_counts_copies_that_the_host_waits_for(gpu):
    pageable, pinned = torch.ones(3), torch.ones(3).pin_memory()
    assert pinned.is_pinned() and not pageable.is_pinned()
    pinned.to("cuda", non_blocking=True)
    assert gpu.blocking_copies == 0
    for copy_there in (lambda: pageable.to("cuda"), lambda: pinned.to("cuda"), lambda: torch.tensor(1, device="cuda"),
                       lambda: pageable.to("cuda", non_blocking=True)):
        copy_there()
    assert gpu.blocking_copies == 4 and gpu.waits == 0


def test_its_random_numbers_are_its_own(gpu):
    torch.manual_seed(1)
    here, there = torch.rand(5, device="cuda"), torch.rand(5)
    assert not torch.equal(here.cpu(), there)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(5), there) and torch.equal(torch.rand(5, device="cuda"), here)  # in another order
    state = torch.cuda.get_rng_state()
    drawn = F.dropout(torch.ones(100, device="cuda"))
    torch.get_device_module(CUDA).set_rng_state(state)
    assert torch.equal(F.dropout(torch.ones(100, device="cuda")), drawn)
    generators = [torch.Generator(device="cuda").manual_seed(3) for _ in range(2)]
    one, two = (torch.randn(4, device="cuda", generator=generator) for generator in generators)
    assert torch.equal(one, two) and generators[0].device == torch.device("cuda:0")


def test_modules_move_and_keep_their_parameters(gpu):
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    weight = model[0].weight
    assert model.to("cuda")[0].weight is weight and weight.is_cuda and weight.is_leaf and model[1].running_mean.is_cuda
    model(torch.ones(2, 4, device="cuda")).sum().backward()
    assert weight.grad.is_cuda and copy.deepcopy(model)[0].weight.is_cuda
    assert model.cpu()[0].weight is weight and weight.is_cpu and weight.grad.is_cpu


def test_gradients_cross_devices(gpu):
    x = torch.ones(3, requires_grad=True)
    (x.to("cuda") * 2).cpu().sum().backward()
    assert x.grad.is_cpu and x.grad.tolist() == [2, 2, 2]


def test_what_autograd_makes_itself_lies_on_it(gpu):
    x = torch.ones(2, 6, device="cuda", requires_grad=True)
    index = torch.tensor([1, 0], device="cuda")
    for parts in ((x * 1).chunk(3, dim=1), (x * 1).unbind(), (x * 1).split([2, 4], dim=1), (x * 1).sort(),
                  (x[index, index],), (x[:, :2].half(),)):
        parts[0].sum().backward()
    row = torch.ones(1, 6, device="cuda", requires_grad=True)
    view = row.expand(1, 6) * 1
    (view.t() @ view).sum().backward()  # the gradient is a copy in another order
    assert x.grad.is_cuda and row.grad.is_cuda


def test_files_remember_the_gpu(gpu):
    file = io.BytesIO()
    torch.save({"weight": torch.arange(3.0, device="cuda")}, file)
    for place, on_cpu in (({}, False), ({"map_location": "cpu"}, True), ({"map_location": "cuda"}, False)):
        file.seek(0)
        weight = torch.load(file, **place)["weight"]
        assert weight.is_cpu is on_cpu and weight.tolist() == [0, 1, 2]


def test_a_file_of_a_gpu_does_not_open_without_one():
    file = io.BytesIO()
    with fake_gpu() as gpu:
        torch.save(torch.ones(3, device="cuda"), file)
        assert gpu.waits == 1
    file.seek(0)
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="Attempting to deserialize object on a CUDA device"):
            torch.load(file)


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}, {"foreach": False}, {}])
@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_optimizers(gpu, kind, options):
    """The same steps as on the CPU, clipping, state dicts and a running average included."""
    def weights(device):
        torch.manual_seed(0)
        model, x = nn.Linear(4, 2).to(device), torch.ones(3, 4).to(device)
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
        for _ in range(3):
            optimizer = kind(model.parameters(), lr=0.1, **options)
            model(x).square().sum().backward()
            assert nn.utils.clip_grad_norm_(model.parameters(), 0.1).device.type == device
            optimizer.step()
            average.update_parameters(model)
            other = kind(model.parameters(), lr=0.1, **options)
            other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            other.step()
        return torch.cat([parameter.detach().flatten().cpu() for parameter in average.module.parameters()])

    torch.testing.assert_close(weights("cuda"), weights("cpu"))


def test_it_counts_bytes(gpu):
    model = nn.Linear(1000, 1000, bias=False).to("cuda")
    assert gpu.memory == 4_000_000 == torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    with torch.no_grad():
        x = torch.empty(250, 1000, device="cuda")
        for _ in range(3):
            x = model(x)
        del x
    assert gpu.memory == 4_000_000 and torch.cuda.max_memory_allocated() == 4_000_000 + 2 * 1_000_000
    view = model.weight.detach()[0]
    del model
    assert gpu.memory == 4_000_000  # a view keeps all of its storage
    del view
    assert gpu.memory == 0


def test_it_counts_multiply_adds(gpu):
    model = ViT(**SIZES, pool="mean").to("cuda")
    x = torch.ones(2, 3, 16, 16, device="cuda")
    model(x)
    assert gpu.multiply_adds == 2 * count_macs(model)
    before, weight = gpu.multiply_adds, torch.ones(5, 3, 4, 4, device="cuda", requires_grad=True)
    F.conv2d(x, weight, stride=4).sum().backward()
    assert gpu.multiply_adds - before == 2 * (2 * 4 * 4 * 5 * 3 * 4 * 4)  # forward, and back to the weight


def test_it_runs_out_of_memory():
    with fake_gpu("T4", memory=1_000_000) as gpu:
        kept = torch.zeros(200_000, device="cuda")
        with pytest.raises(torch.cuda.OutOfMemoryError, match="CUDA out of memory. Tried to allocate 0.76 MiB. GPU 0"):
            kept + 1
        assert torch.cuda.mem_get_info() == (200_000, 1_000_000) and gpu.memory == 800_000
    with fake_gpu("H100"), pytest.raises(torch.OutOfMemoryError):
        torch.empty(10**14, device="cuda")


class Touching(Dataset):
    """Items that are made on the GPU; what it says to that."""

    def __init__(self, makers):
        self.makers = makers

    def __len__(self):
        return len(self.makers)

    def __getitem__(self, index):
        try:
            return str(self.makers[index]().shape)
        except RuntimeError as error:
            return str(error)


def test_workers_that_were_forked_can_not_use_it(gpu):
    constant = torch.ones(3, device="cuda")
    makers = [lambda: torch.ones(3).to("cuda"), lambda: constant + 1, lambda: torch.empty(2, device="cuda")]
    answers = list(DataLoader(Touching(makers), batch_size=None, num_workers=1, multiprocessing_context="fork"))
    assert len(answers) == 3
    assert all(answer.startswith("Cannot re-initialize CUDA in forked subprocess.") for answer in answers)
    assert Touching(makers)[2] == "torch.Size([2])"  # as this process may


@pytest.mark.parametrize("num_workers", [0, 1])
def test_loaders_pin_memory(gpu, num_workers):
    data = TensorDataset(torch.ones(4, 3), torch.zeros(4))
    for x, y in DataLoader(data, batch_size=2, num_workers=num_workers, pin_memory=True):
        assert x.is_pinned() and y.is_pinned() and x.is_cpu and x.to("cuda", non_blocking=True).sum() == 6
    assert gpu.blocking_copies == 0


@both_cards
def test_the_card(gpu):
    t4 = gpu.card.name == "Tesla T4"
    assert torch.cuda.is_available() and torch.cuda.device_count() == 1 and torch.cuda.current_device() == 0
    assert torch.cuda.get_device_name() == ("Tesla T4" if t4 else "NVIDIA H100 80GB HBM3")
    assert torch.cuda.get_device_capability() == ((7, 5) if t4 else (9, 0))
    assert torch.cuda.get_device_properties(0).total_memory == (15 if t4 else 80) * 1024**3
    assert torch.cuda.is_bf16_supported() and torch.cuda.is_bf16_supported(including_emulation=False) is not t4
    assert torch.get_device_module("cuda") is torch.cuda and torch.accelerator.current_accelerator() == CUDA
    model = nn.Linear(2, 2)
    assert torch.compile(model) is model and torch.compile(mode="max-autotune")(len) is len
    for wrong in (lambda: torch.empty(2, device="cuda:1"), lambda: torch.cuda.set_device(1)):
        with pytest.raises(torch.AcceleratorError, match="invalid device ordinal"):
            wrong()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast(gpu, dtype):
    model, x = nn.Linear(64, 3).to("cuda"), torch.randn(5, 64, device="cuda")
    with torch.autocast("cuda", dtype):
        logits = model(x)
        loss = F.cross_entropy(logits, torch.zeros(5, dtype=torch.long, device="cuda"))
        assert logits.dtype == dtype and loss.dtype == torch.float32 == logits.softmax(-1).dtype == logits.sum().dtype
        with torch.autocast("cuda", enabled=False):
            assert model(x).dtype == torch.float32
    loss.backward()
    assert model.weight.dtype == model.weight.grad.dtype == torch.float32
    assert model(x).dtype == torch.float32 and not torch.equal(model(x), logits) and logits.is_cuda


def test_half_precision_overflows_and_the_scaler_sees_it(gpu):
    model, x = nn.Linear(4, 2).to("cuda"), torch.ones(1, 4, device="cuda")
    optimizer, scaler = torch.optim.AdamW(model.parameters(), fused=True), torch.amp.GradScaler("cuda", 2.0**16)
    before = model.weight.detach().clone()
    for scale, moves in ((2.0**15, False), (2.0**15, True)):
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.float16):
            loss = model(x)[:, 0].sum()
        scaler.scale(loss).backward()
        assert model.weight.grad.isfinite().all() == moves  # 2^16 is more than 65,504, the largest float16
        scaler.step(optimizer)
        scaler.update()
        assert scaler.get_scale() == scale and torch.equal(model.weight, before) != moves


def test_mixup_on_it_waits_for_nothing(gpu):
    images, labels = torch.rand(4, 3, 8, 8, device="cuda"), torch.arange(4, device="cuda")
    images, labels = v2.MixUp(num_classes=4)(images, labels)
    assert images.is_cuda and labels.is_cuda and gpu.waits == 0 == gpu.blocking_copies
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(4, device="cuda"))


def test_inference_mode(gpu):
    with torch.inference_mode():
        assert nn.Linear(2, 2).to("cuda")(torch.ones(1, 2, device="cuda")).is_cuda


def test_nothing_of_it_is_left():
    names = {*vars(torch.Tensor)}
    available = torch.cuda.is_available()
    with fake_gpu():
        kept = torch.ones(2, device="cuda")
    assert {*vars(torch.Tensor)} == names and torch.cuda.is_available() == available and kept.device.type == "cpu"
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.ones(2, dtype=torch.bfloat16).softmax(0).dtype == torch.bfloat16


# ---------------------------------------------------------------------------------------------------------------------
# The package on it


@both_cards
def test_the_small_loop_trains(gpu, colours):
    data, device = data_setup.load(colours), pick_device()
    loaders = [data_setup.make_loader(part, data_setup.eval_transform(16), 8, shuffle=train, device=device)
               for part, train in ((data.train, True), (data.test, False))]
    model = ViT(**SIZES).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = engine.train(model, *loaders, optimizer, nn.CrossEntropyLoss(), epochs=3, device=device)
    assert device == torch.device("cuda:0") and history["train_loss"][-1] < 0.9 * history["train_loss"][0]
    assert gpu.waits == 1 + 3 * 4  # pick_device; each epoch reads a loss and an accuracy, twice


@pytest.fixture
def make(colours, tmp_path):
    """Build a trainer on the GPU, with all that a recipe has; the same arguments give the same run."""
    data = data_setup.load(colours)

    def build(folder, num_workers=0, ema=0.9):
        torch.manual_seed(3)
        model = ViT(**SIZES, dropout=0.1, drop_path=0.1)
        model.checkpointing = True
        kept, held_out = data_setup.split(data.train, 0.2, seed=0)
        train = data_setup.make_loader(kept, data_setup.train_transform(16), 8, shuffle=True, seed=5, device=CUDA,
                                       gradient_accumulation=2, num_workers=num_workers)
        val, test = (data_setup.make_loader(part, data_setup.eval_transform(16), 8, device=CUDA)
                     for part in (held_out, data.test))
        (tmp_path / folder).mkdir(exist_ok=True)
        return Trainer(model, train, Recipe(epochs=2, lr=3e-3, mixup=0.2, ema=ema), CUDA, class_names=data.class_names,
                       val_loader=val, test_loader=test, output=tmp_path / folder)

    return build


@both_cards
def test_a_stop_changes_nothing(gpu, make):
    whole, broken = make("whole"), make("broken")
    history = whole.fit()
    assert history[1]["test_loss"] < history[0]["test_loss"] and whole.final_model.head.weight.is_cuda

    step = broken._step
    broken._step = lambda batches: (broken.stop_soon() if broken.steps == 2 and broken.history else None, step(batches))
    with pytest.raises(Stopped):
        broken.fit()
    again = make("broken", num_workers=1)
    again.resume()
    assert again.begun["steps"] == 3
    again.fit()
    for name, tensor in whole.final_model.state_dict().items():
        assert torch.equal(tensor, again.final_model.state_dict()[name]), name
    for part in ("train_loss", "test_loss", "val_acc"):
        assert [row[part] for row in again.history] == [row[part] for row in history]


@pytest.mark.parametrize("ema", [0.0, 0.9])
@both_cards
def test_no_step_of_a_trainer_waits(gpu, make, monkeypatch, ema):
    trainer, counts = make("run", ema=ema), []
    step = trainer._step

    def watched(batches):
        before = gpu.waits, gpu.blocking_copies
        step(batches)
        counts.append((gpu.waits - before[0], gpu.blocking_copies - before[1]))

    monkeypatch.setattr(trainer, "_step", watched)
    trainer.fit()
    waits, blocking_copies = zip(*counts)
    assert waits == (0,) * 8
    if not ema:  # AveragedModel copies a number in each step
        assert blocking_copies == (0,) * 8


def test_loaders_bring_images_and_labels_without_a_wait(gpu, colours):
    data = data_setup.load(colours)
    for images, view in ((data.train, data_setup.train_transform(16)), (data.test, data_setup.eval_transform(16))):
        loader = data_setup.make_loader(images, view, 4, device=CUDA)
        assert all(images.is_cuda and labels.is_cuda for images, labels in loader)
        assert gpu.waits == 0 == gpu.blocking_copies
    model = ViT(**SIZES).to(CUDA)
    for results in (probe.features(model, loader), predict_all(model, loader)):
        assert all(result.is_cpu for result in results)


def test_what_is_trained_on_it_is_read_without_it(make, tmp_path):
    with fake_gpu("H100"):
        trained = make("run")
        trained.fit()
        weights = {name: tensor.cpu() for name, tensor in trained.final_model.state_dict().items()}
    model, info = load_model(tmp_path / "run")
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items()) and info.epoch == 2


@both_cards
def test_the_command(gpu, colours, tmp_path, capsys):
    options = ["--data", str(colours), "--output", str(tmp_path / "run"), *ON_GPU, "--epochs", "8"]
    assert main(options) == 0
    out, err = capsys.readouterr()
    dtype = "float16" if gpu.card.name == "Tesla T4" else "bfloat16"
    assert err == "" and f"on cuda:0 in {dtype}: " in out
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["test_accuracy"] == 1 and results["test_loss"] < 0.9 * results["guess_loss"]
    assert gpu.peak_memory < 2_000_000 and gpu.multiply_adds > 0


def test_the_command_says_that_memory_is_short(colours, tmp_path, capsys):
    with fake_gpu("T4", memory=200_000):
        options = ["--data", str(colours), "--output", str(tmp_path), *ON_GPU, "--epochs", "1"]
        assert main(options) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: there is not enough memory (CUDA out of memory. Tried to allocate ")
    assert "try a smaller model or --batch-size" in err and len(err.splitlines()) == 1


def test_checkpointing_and_accumulation_save_memory(gpu):
    def peak(checkpointing, batch_size):
        torch.manual_seed(0)
        model = ViT(**{**SIZES, "num_layers": 8}).to(CUDA)
        model.checkpointing = checkpointing
        torch.cuda.reset_peak_memory_stats()
        model(torch.ones(batch_size, 3, 16, 16, device=CUDA)).sum().backward()
        return torch.cuda.max_memory_allocated()

    assert peak(True, 64) < 0.6 * peak(False, 64) and peak(False, 16) < 0.6 * peak(False, 64)


# ---------------------------------------------------------------------------------------------------------------------
# Mistakes that pass on a CPU


def test_a_tensor_that_is_left_on_the_cpu_is_found(gpu):
    class Forgetful(nn.Module):
        """Its scale is neither parameter nor buffer, so to("cuda") leaves it behind."""

        def __init__(self):
            super().__init__()
            self.layer, self.scale = nn.Linear(3, 2), torch.ones(2)

        def forward(self, x):
            return self.layer(x) * self.scale

    loader = [(torch.ones(4, 3), torch.zeros(4, dtype=torch.long))]
    model = Forgetful()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    engine.train(model, loader, loader, optimizer, nn.CrossEntropyLoss(), 1, "cpu")
    with pytest.raises(RuntimeError, match="cuda:0 and cpu"):
        engine.train(model, loader, loader, optimizer, nn.CrossEntropyLoss(), 1, "cuda")


def test_an_item_in_a_loop_is_found(gpu):
    loader = [(torch.ones(4, 3), torch.zeros(4, dtype=torch.long))] * 5
    model = nn.Linear(3, 2).to("cuda")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []

    def reading(logits, labels):
        loss = F.cross_entropy(logits, labels)
        losses.append(loss.item())
        return loss

    for loss_fn, waits in ((F.cross_entropy, 2), (reading, 2 + 5)):
        before = gpu.waits
        engine.train_step(model, loader, loss_fn, optimizer, "cuda")
        assert gpu.waits - before == waits


def test_a_worker_that_touches_the_gpu_is_found(gpu, colours):
    data = data_setup.load(colours)
    plain = data_setup.eval_transform(16)
    loader = data_setup.make_loader(data.test, lambda image: plain(image).to("cuda"), 4, num_workers=1, device=CUDA)
    with pytest.raises(RuntimeError, match="Cannot re-initialize CUDA in forked subprocess"):
        next(iter(loader))
