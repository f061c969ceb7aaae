"""Our logits and gradients beside those of the libraries, on the same weights: as tests, and as the README's table.

python -m benchmarks.parity [--variants Ti/16 S/16 B/16 B/32 L/16 H/14] [--seed 0]  ->  benchmarks/results/parity.json

The weights are random, from each library's own initialiser; what it sets to a constant (a head of zeros, say) is drawn
anew, as it would hide errors. H/14 is cut down to 2 layers. "official" is the architecture of the paper's authors,
written here in numpy by the names of their files alone.
"""
import argparse
import math
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.common import write_log
from going_modular import weights
from going_modular.vit import VARIANTS, ViT

CLASSES = 10
LIBRARIES = ("torchvision", "timm", "transformers", "official")


def sizes_of(variant: str) -> dict:
    """Sizes of "B/16" and its like, as ViT takes them; H has 2 layers here."""
    name, patch = variant.split("/")
    return {**VARIANTS[name], "patch_size": int(patch), **({"num_layers": 2} if name == "H" else {})}


def redraw(model: nn.Module) -> nn.Module:
    """Draw constant parameters anew, about their constant, and set the model to evaluation.

    Biases, LayerNorms and a head of zeros start as constants, among which an exchange would not show.
    """
    for parameter in model.parameters():
        if parameter.std() < 1e-5:
            nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.1)
    return model.eval()


def torchvision_model(image_size: int, sizes: dict) -> nn.Module:
    from torchvision.models import VisionTransformer

    return redraw(VisionTransformer(
        image_size, sizes["patch_size"], sizes["num_layers"], sizes["num_heads"], sizes["hidden_size"],
        sizes["mlp_size"], num_classes=CLASSES))


def timm_model(image_size: int | tuple[int, int], sizes: dict, **options) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return redraw(VisionTransformer(
        image_size, sizes["patch_size"], embed_dim=sizes["hidden_size"], depth=sizes["num_layers"],
        num_heads=sizes["num_heads"], mlp_ratio=sizes["mlp_size"] / sizes["hidden_size"],
        num_classes=CLASSES, **options))


class TransformersModel(nn.Module):
    """transformers' ViT as a function: images [batch, C, H, W] -> logits [batch, classes].

    For images of another size it interpolates its position embeddings in each forward pass.
    """

    def __init__(self, image_size: int | tuple[int, int], sizes: dict):
        import transformers

        super().__init__()
        config = transformers.ViTConfig(
            image_size=image_size, patch_size=sizes["patch_size"], num_hidden_layers=sizes["num_layers"],
            num_attention_heads=sizes["num_heads"], hidden_size=sizes["hidden_size"],
            intermediate_size=sizes["mlp_size"], num_labels=CLASSES)
        self.model = redraw(transformers.ViTForImageClassification(config))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images, interpolate_pos_encoding=True).logits


def official_arrays(image_size: int, sizes: dict, seed: int = 0) -> dict[str, np.ndarray]:
    """What a file of the authors holds, by its names, float32, everything random."""
    rng = np.random.default_rng(seed)
    d, m, k, p = (sizes[name] for name in ("hidden_size", "mlp_size", "num_heads", "patch_size"))  # D, M, k, P

    def normal(*shape: int, std: float = 0.1, mean: float = 0.0) -> np.ndarray:
        return (mean + std * rng.standard_normal(shape)).astype(np.float32)

    def kernel(*shape: int, fan_in: int) -> np.ndarray:
        return normal(*shape, std=fan_in**-0.5)

    arrays = {"cls": normal(1, 1, d), "embedding/kernel": kernel(p, p, 3, d, fan_in=3 * p * p),
              "embedding/bias": normal(d), "head/kernel": kernel(d, CLASSES, fan_in=d), "head/bias": normal(CLASSES),
              "Transformer/posembed_input/pos_embedding": normal(1, 1 + (image_size // p) ** 2, d, std=0.02)}
    norms = ["Transformer/encoder_norm"]
    for i in range(sizes["num_layers"]):
        block = f"Transformer/encoderblock_{i}"
        norms += [f"{block}/LayerNorm_0", f"{block}/LayerNorm_2"]
        attention, mlp = f"{block}/MultiHeadDotProductAttention_1", f"{block}/MlpBlock_3"
        for name in ("query", "key", "value"):
            arrays[f"{attention}/{name}/kernel"] = kernel(d, k, d // k, fan_in=d)
            arrays[f"{attention}/{name}/bias"] = normal(k, d // k)
        arrays |= {f"{attention}/out/kernel": kernel(k, d // k, d, fan_in=d), f"{attention}/out/bias": normal(d),
                   f"{mlp}/Dense_0/kernel": kernel(d, m, fan_in=d), f"{mlp}/Dense_0/bias": normal(m),
                   f"{mlp}/Dense_1/kernel": kernel(m, d, fan_in=m), f"{mlp}/Dense_1/bias": normal(d)}
    for name in norms:
        arrays |= {f"{name}/scale": normal(d, mean=1.0), f"{name}/bias": normal(d)}
    return arrays


def official_logits(arrays: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """The official architecture in float64: images [batch, H, W, C] -> logits [batch, classes].

    It shares no code with going_modular.weights, which it is to check. Where the images are not of the
    size that the position embeddings are for, these are interpolated (Section 3.2).
    """
    w = {name: array.astype(np.float64) for name, array in arrays.items()}

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * w[f"{name}/scale"] + w[f"{name}/bias"]

    def dense(x, name):
        return x @ w[f"{name}/kernel"] + w[f"{name}/bias"]

    def heads(x, name):  # [batch, tokens, D] -> [batch, k, tokens, D_h]
        return np.einsum("btd,dkh->bkth", x, w[f"{name}/kernel"], optimize=True) + w[f"{name}/bias"][:, None]

    # Equation 1: patches, flattened in the order of the kernel's axes [P, P, C, D], class token, positions.
    patch = w["embedding/kernel"].shape[0]
    batch, height, width, channels = images.shape
    x = images.reshape(batch, height // patch, patch, width // patch, patch, channels).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(batch, -1, patch * patch * channels) @ w["embedding/kernel"].reshape(patch * patch * channels, -1)
    x = np.concatenate([np.broadcast_to(w["cls"], (batch, 1, x.shape[2])), x + w["embedding/bias"]], axis=1)
    positions = w["Transformer/posembed_input/pos_embedding"]
    x = x + np.concatenate([positions[:, :1], resize_bilinear(positions[0, 1:], height // patch)[None]], axis=1)
    layer = 0
    while f"Transformer/encoderblock_{layer}/LayerNorm_0/scale" in w:
        block = f"Transformer/encoderblock_{layer}"
        attention = f"{block}/MultiHeadDotProductAttention_1"
        # Equation 2: multi-head self-attention (Equations 5 to 8) and its skip connection.
        y = norm(x, f"{block}/LayerNorm_0")
        q, k, v = (heads(y, f"{attention}/{name}") for name in ("query", "key", "value"))
        scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
        exponentials = np.exp(scores - scores.max(-1, keepdims=True))
        y = exponentials / exponentials.sum(-1, keepdims=True) @ v
        x = x + np.einsum("bkth,khd->btd", y, w[f"{attention}/out/kernel"], optimize=True) + w[f"{attention}/out/bias"]
        # Equation 3: the MLP and its skip connection.
        y = dense(norm(x, f"{block}/LayerNorm_2"), f"{block}/MlpBlock_3/Dense_0")
        y = 0.5 * y * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))  # flax's nn.gelu
        x = x + dense(y, f"{block}/MlpBlock_3/Dense_1")
        layer += 1
    return dense(norm(x, "Transformer/encoder_norm")[:, 0], "head")  # Equation 4: the class token's output


def resize_bilinear(positions: np.ndarray, grid: int) -> np.ndarray:
    """Position embeddings [n * n, D] -> [grid * grid, D], bilinear with aligned corners, as scipy.ndimage.zoom does it.
    """
    n = math.isqrt(len(positions))
    # Each new row lies between two old ones, which weigh the more, the nearer they are; the same for the columns.
    new = np.linspace(0, n - 1, grid)
    low = np.minimum(new.astype(int), n - 2)
    weight = (new - low)[:, None]
    matrix = (1 - weight) * np.eye(n)[low] + weight * np.eye(n)[low + 1]  # [grid, n]
    return np.einsum("ap,bq,pqd->abd", matrix, matrix, positions.reshape(n, n, -1)).reshape(grid * grid, -1)


def resized(library: str, model: nn.Module, variant: str, image_size: int) -> nn.Module:
    """The library's model for another image size, interpolated by the library itself."""
    sizes = sizes_of(variant)
    if library == "transformers":
        return model  # interpolates in its forward pass
    if library == "timm":
        model.set_input_size((image_size, image_size))
        return model
    from torchvision.models.vision_transformer import interpolate_embeddings

    larger = torchvision_model(image_size, sizes)
    larger.load_state_dict(interpolate_embeddings(image_size, sizes["patch_size"], model.state_dict()))
    return larger.to(next(model.parameters()).dtype)


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference, relative to the largest value."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def compare(library: str, variant: str, dtype: torch.dtype = torch.float32, gradients: bool = False,
            image_size: int = 224, seed: int = 0, num_layers: int | None = None) -> dict[str, float]:
    """Largest relative differences between our logits and the library's, of a random image, on weights for 224 px.

    gradients: compare those of the loss with respect to the image and to each parameter, too.
    image_size: in pixels, of the image; at another one than 224, position embeddings are interpolated.
    num_layers: None for the variant's.
    """
    torch.manual_seed(seed)
    sizes = sizes_of(variant) | ({"num_layers": num_layers} if num_layers else {})
    with torch.device("meta"):  # no weights of its own: any that were not loaded would be garbage
        ours = ViT(image_size, num_classes=CLASSES, **sizes, **weights.LAYOUTS[library].default_settings)
    ours = ours.to_empty(device="cpu").to(dtype).eval()
    image = torch.rand(1, 3, image_size, image_size, dtype=dtype) * 2 - 1
    if library == "official":
        arrays, theirs = official_arrays(224, sizes, seed), None
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "weights.npz"
            np.savez(file, **arrays)
            weights.load(ours, file, image_size=image_size)
            if gradients:  # numpy has none: timm reads the same file with its own reader
                theirs = timm_model(224, sizes, act_layer=partial(nn.GELU, approximate="tanh"))
                theirs.load_pretrained(str(file))
        expected = torch.from_numpy(official_logits(arrays, image.permute(0, 2, 3, 1).numpy()))
    else:
        builder = {"torchvision": torchvision_model, "timm": timm_model, "transformers": TransformersModel}[library]
        theirs = builder(224, sizes).to(dtype)
        weights.load(ours, getattr(theirs, "model", theirs), image_size=image_size, positions=library)
        if image_size != 224:
            theirs = resized(library, theirs, variant, image_size)
        with torch.no_grad():
            expected = theirs(image)
    with torch.no_grad():
        found = {"logits": difference(ours(image), expected)}
    if gradients:
        found |= compare_gradients(ours, theirs.to(dtype).eval(), image)
    return found


def compare_gradients(ours: ViT, theirs: nn.Module, image: torch.Tensor) -> dict[str, float]:
    """Largest relative differences of the gradients of the cross-entropy of class 3, for an image [1, C, H, W]."""
    gradients = {}
    for name, model in (("ours", ours), ("theirs", theirs)):
        image = image.detach().requires_grad_()
        F.cross_entropy(model(image), torch.tensor([3])).backward()
        gradients[name] = {"image": image.grad, **{name.removeprefix("model."): parameter.grad
                                                   for name, parameter in model.named_parameters()}}
    of_image = difference(gradients["ours"].pop("image"), gradients["theirs"].pop("image"))
    # Gradients have the names and shapes of their parameters: the layout reads them as it reads weights.
    layout, source = weights.identify_layout(weights.open_source(gradients["theirs"]))
    of_weights = max(difference(ours, layout.read(name, source.get)) for name, ours in gradients["ours"].items())
    return {"gradient of the image": of_image, "gradients of the weights": of_weights}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", default=["Ti/16", "S/16", "B/16", "B/32", "L/16", "H/14"])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    table = {}
    for variant in args.variants:
        for library in LIBRARIES:
            single = compare(library, variant, gradients=True, seed=args.seed)
            at_384 = {}
            if 384 % sizes_of(variant)["patch_size"] == 0:
                at_384 = {"at 384 px": compare(library, variant, image_size=384, seed=args.seed)["logits"]}
            double = compare(library, variant, torch.float64, gradients=library != "official", seed=args.seed)
            table.setdefault(variant, {})[library] = {"float32": single | at_384, "float64": double}
            print(variant, library, table[variant][library], flush=True)
    write_log("parity", {"seed": args.seed, "largest_relative_difference": table,
                         "versions": {name: version(name) for name in ("timm", "transformers")}})


if __name__ == "__main__":
    main()
