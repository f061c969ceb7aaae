"""What the paper does with a Vision Transformer: look inside, fine-tune, probe, mask
patches, other positions."""
