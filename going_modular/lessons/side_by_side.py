"""Both sides of an equality, printed for the reader's eye before they are asserted to be equal."""
import torch


def numbers(vector: torch.Tensor) -> str:
    """The numbers of a vector as text, with two decimals."""
    # Adding 0.0 turns -0.0 into 0.0, which is not printed as "-0.00".
    return " ".join(f"{round(value, 2) + 0.0:5.2f}" for value in vector.tolist())


def compare(**results: torch.Tensor) -> None:
    """Print, of two results of the same shape, the first five numbers, the shape, and the largest
    difference between any of their numbers. The keywords are their names."""
    for name, result in results.items():
        print(f"{name:11} {numbers(result.flatten()[:5])} ...  shape {list(result.shape)}")
    one, other = results.values()
    print(f"largest difference: {(one - other).abs().max():.4f}")
