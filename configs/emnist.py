"""VAE with two hidden layers of 200 on EMNIST (Cohen et al. 2017), digits and letters, binarized
anew at every step.

    python3 -m vae_jax.main --config=configs/emnist.py

Its other parts are data.name "emnist/byclass", "emnist/bymerge", "emnist/digits", "emnist/letters",
"emnist/mnist".
Not run: needs the official gzip.zip (fetched, or in data.manual_dir) or a copy that TFDS has
prepared.
"""

from vae_jax import default


def get_config():
    config = default()
    config.data.name = "emnist/balanced"
    return config
