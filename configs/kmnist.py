"""VAE with two hidden layers of 200 on Kuzushiji-MNIST (Clanuwat et al. 2018), binarized anew at
every step.

    python3 -m vae_jax.main --config=configs/kmnist.py

Not run: needs the four official files (fetched, or in data.manual_dir) or a copy that TFDS has
prepared.
"""

from vae_jax import default


def get_config():
    config = default()
    config.data.name = "kmnist"
    return config
