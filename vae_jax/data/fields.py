"""The configuration of data: config.data."""

from vae_jax.types import Field

FIELDS = {
    "name": Field("mnist", 'a dataset, or your own: "file" | "folder"'),  # see sources.DATASETS
    "source": Field(
        "auto", "where it may come from", choices=("auto", "tfds", "official", "embedded")
    ),
    "data_dir": Field("", "where TFDS has prepared data; empty: $TFDS_DATA_DIR, TFDS's default"),
    "manual_dir": Field("", "where official files are; empty: the download cache, the network"),
    "path": Field("", "of your .npy or .npz file, or of your folder of images"),
    "scale": Field(
        "type", 'which numbers of yours become 0 and 1: by their "type", their "range", or "0:4095"'
    ),
    "resize": Field(
        (), "(height, width) of uint8 images, after cropping; (): not resized", above=0, most=16_384
    ),
    "crop": Field("center", '"center" | "none" | "148x178": the centred part of 148 rows'),
    "skip_broken": Field(False, "whether broken files of a folder are left out, with a warning"),
    "num_valid": Field(5000, "examples of train that are held out for validation", least=0),
    "num_test": Field(0, "likewise for testing, where the data has no test split", least=0),
    "binarize": Field(
        "dynamic", "how grey values become 0 and 1", choices=("dynamic", "threshold", "none")
    ),
    "condition": Field((), "names of labels that the model is given beside x", of_names=True),
    "seed": Field(0, "of the order of examples", least=0, below=2**31),
    "shuffle": Field(True, "whether every epoch has an order of its own; False: that of the data"),
    "resident": Field(
        "auto", "whether the training set is kept on the device", choices=("auto", "yes", "no")
    ),
}
