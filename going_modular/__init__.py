"""The finished code of the notebooks: the Vision Transformer, its data and its training.

Each module does one job.
"""
import os

# What PyTorch lacks on Apple's MPS it then computes on the CPU, with a warning, instead of failing.
# It reads this when it is imported, so it has to be set before that, which is here. A program that
# imports torch first has to set it itself.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
