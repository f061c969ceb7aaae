"""What the paper does with a Vision Transformer: inspect it, fine-tune it, probe it, pre-train it
on masked patches, and vary its positions."""
