"""VAE with two hidden layers of 200 on Omniglot (Lake et al. 2015) at 28x28, binarized anew at
every step.

    python3 -m vae_jax.main --config=configs/omniglot.py

TFDS's 105x105 images, gray and resized: black strokes on white, and a test set of other alphabets.
The 28x28 set of Burda et al. 2016 has the same drawings in another split: numbers do not compare.
Not run: needs the prepared omniglot.
"""

from vae_jax import default


def get_config():
    config = default()
    config.data.name = "omniglot"
    config.data.resize = (28, 28)
    config.data.num_valid = 1000
    return config
