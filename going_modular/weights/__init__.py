"""Weights of other libraries into a ViT and back: the same numbers, so the same logits.

    model = weights.load("B/16", "torchvision:vit_b_16/IMAGENET1K_V1")
    weights.save_as(model, "timm", "vit.safetensors")

layouts         what each library calls the weights and how it shapes them, a table for each
preprocessing   how each library prepares an image
interpolation   position embeddings for another image size
sources         files, state dicts, modules and downloads, read one tensor at a time
identification  whose weights a source holds, and which part of it they are
modules         what a module tells of itself: activation, pooling and the like
loading         load, and what it checks before a number is copied
saving          save_as

As a command: python -m going_modular.weights info SOURCE, or convert SOURCE KIND FILE.
"""
from going_modular.weights.identification import identify_layout
from going_modular.weights.interpolation import resize_positions
from going_modular.weights.layouts import LAYOUTS
from going_modular.weights.loading import load, model_of
from going_modular.weights.saving import save_as
from going_modular.weights.sources import WeightsError, open_source

__all__ = [
    "LAYOUTS", "WeightsError", "identify_layout", "load", "model_of", "open_source",
    "resize_positions", "save_as",
]
