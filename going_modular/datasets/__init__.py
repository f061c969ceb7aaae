"""Where the images come from: files, folders, downloads, data sets by name; how they become batches
of tensors.

The modules import each other downwards only: loading -> views -> images, and named -> downloads ->
layouts -> folders -> images. `going_modular.data_setup` is their public face.
"""
