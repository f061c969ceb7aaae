"""What a notebook prints before it asserts: both sides, and how far apart they lie anywhere."""
import torch

from going_modular.lessons.side_by_side import compare, numbers


def test_numbers_have_two_decimals_and_no_negative_zero():
    assert numbers(torch.tensor([1.234, -0.001, -12.0])) == " 1.23  0.00 -12.00"


def test_compare_shows_both_sides_and_the_largest_difference_anywhere(capsys):
    result = torch.zeros(2, 4)
    other = result.clone()
    other[1, 3] = -0.25  # beyond the first five numbers
    compare(ours=result, pytorch=other)
    ours, theirs, difference = capsys.readouterr().out.splitlines()
    assert ours == "ours         0.00  0.00  0.00  0.00  0.00 ...  shape [2, 4]"
    assert theirs.startswith("pytorch ") and theirs.endswith("shape [2, 4]")
    assert difference == "largest difference: 0.2500"
