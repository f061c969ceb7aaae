"""The finished code of the notebooks: the Vision Transformer, its data, its training.
Each module does one job."""
