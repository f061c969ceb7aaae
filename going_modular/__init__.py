"""The finished code of the notebooks: the Vision Transformer, its data and its training.

Each module does one job.
"""
