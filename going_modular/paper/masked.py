"""Masked patch prediction, the self-supervised pre-training of Appendix B.1.2: learning from images
without labels.

    task = MaskedPatchPrediction(vit)
    train(task, loader, epochs=10, lr=1e-3, device=device)
    model = finetune.new_head(vit, num_classes=3)
"""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from going_modular.recipe import Recipe, autocast, computing_dtype, grad_scaler
from going_modular.vit import ViT, patchify

LEVELS = 8  # of each channel: 3 bits
COLOURS = LEVELS**3


def mean_colours(images: torch.Tensor, patch_size: int) -> torch.Tensor:
    """The mean colour of each patch with 3 bits per channel: images [batch, 3, H, W] in [-1, 1] ->
    classes [batch, N] from 0 to 511, where one level of red counts 64, of green 8, and of blue 1.
    """
    means = patchify(images, patch_size).unflatten(-1, (3, -1)).mean(dim=-1)  # [batch, N, 3]
    # clamp, because a mean of exactly 1 would otherwise be in a ninth level.
    red, green, blue = ((means + 1) / 2 * LEVELS).long().clamp(0, LEVELS - 1).unbind(dim=-1)
    return (red * LEVELS + green) * LEVELS + blue


def to_rgb(colours: torch.Tensor) -> torch.Tensor:
    """Classes of `mean_colours`, of any shape [...] -> the colours at their centres, [..., 3] in
    [0, 1]."""
    channels = torch.stack([colours // LEVELS**2, colours // LEVELS % LEVELS, colours % LEVELS],
                           dim=-1)
    return (channels + 0.5) / LEVELS


def corrupt(
    patches: torch.Tensor, mask: torch.Tensor, corruption_rate: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Corrupt this share of the patch embeddings [batch, N, D] of each image, at least one of them.

    80 % of those become `mask` [D], 10 % the embedding of another patch of the batch, and 10 % stay
    as they are (Appendix B.1.2).

    Returns (embeddings [batch, N, D], the patches to be predicted [batch, N] as truth values).
    """
    batch, number, _ = patches.shape
    # Sorting random numbers gives a random order of the patches of each image: its first places are
    # the same number of patches in every image, which drawing each patch by itself would not give.
    places = torch.rand(batch, number, device=patches.device).argsort(dim=1)
    corrupted = places < max(1, round(corruption_rate * number))
    # One random number decides among the three, with the probabilities 0.8, 0.1 and 0.1.
    draw = torch.rand(batch, number, 1, device=patches.device)
    others = patches.flatten(0, 1)[
        torch.randperm(batch * number, device=patches.device)].view_as(patches)
    replaced = torch.where(draw < 0.8, mask, torch.where(draw < 0.9, others, patches))
    return torch.where(corrupted.unsqueeze(-1), replaced, patches), corrupted


class MaskedPatchPrediction(nn.Module):
    """A ViT with what this task adds: an embedding [mask], and a head that reads each patch.

    The task is to predict the mean colours of the corrupted patches from all the others. The ViT
    itself keeps its layers, so that `finetune.new_head` can take it afterwards.
    Raises ValueError for a corruption_rate outside (0, 1].
    """

    def __init__(self, vit: ViT, corruption_rate: float = 0.5):
        super().__init__()
        if not 0 < corruption_rate <= 1:
            raise ValueError(f"corruption_rate must be above 0 and at most 1, not {corruption_rate}")
        self.vit, self.corruption_rate = vit, corruption_rate
        self.mask = nn.Parameter(torch.zeros(vit.settings["hidden_size"]))
        self.head = nn.Linear(vit.settings["hidden_size"], COLOURS)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images [batch, 3, H, W] -> (logits of the mean colour of each patch [batch, N, 512],
        the corrupted patches [batch, N] as truth values, which alone count in the loss)."""
        seen: dict[str, torch.Tensor] = {}
        corrupted: list[torch.Tensor] = []

        def replace(module: nn.Module, inputs: tuple, patches: torch.Tensor) -> torch.Tensor:
            patches, chosen = corrupt(patches, self.mask, self.corruption_rate)
            corrupted.append(chosen)
            return patches

        # The hook corrupts the patch embeddings within the ViT's own forward pass, so that there is
        # no second copy of it here.
        hook = self.vit.patch_embedding.register_forward_hook(replace)
        try:
            self.vit(images, intermediates=seen)
        finally:
            hook.remove()
        # The last N tokens are the patches; a class token would come before them.
        return self.head(seen["encoder"][:, -corrupted[0].shape[1]:]), corrupted[0]

    def loss(self, images: torch.Tensor) -> torch.Tensor:
        """The mean cross-entropy over the corrupted patches of images [batch, 3, H, W]."""
        logits, corrupted = self(images)
        colours = mean_colours(images, self.vit.settings["patch_size"])
        return F.cross_entropy(logits[corrupted], colours[corrupted])


def train(
    task: MaskedPatchPrediction, loader: DataLoader, epochs: int, lr: float,
    device: torch.device | str,
) -> list[float]:
    """Train the task and its ViT on batches (images [batch, 3, H, W], anything), and print a line
    for each epoch.

    The optimizer, the learning rates, the clipping and the precision are those of Trainer, whose
    step needs labels. Returns the mean loss of each epoch.
    """
    device = torch.device(device)
    task.to(device).train()
    recipe = Recipe(epochs=epochs, lr=lr)
    optimizer = recipe.optimizer(task)
    schedule = recipe.schedule(optimizer, epochs * len(loader))
    dtype = computing_dtype(device, hidden_size=task.vit.settings["hidden_size"])
    scaler = grad_scaler(device, dtype)
    losses = []
    for epoch in range(epochs):
        # The sum stays on the device, so that no step waits for it.
        total, count = torch.zeros((), device=device), 0
        for images, _ in loader:
            with autocast(device, dtype):
                loss = task.loss(images.to(device))
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(task.parameters(), recipe.clip_norm)
            scaler.step(optimizer)
            scaler.update()
            schedule.step()
            total, count = total + loss.detach() * len(images), count + len(images)
        losses.append(total.item() / count)
        print(f"epoch {epoch + 1}/{epochs} | loss {losses[-1]:.3f}", flush=True)
    return losses
