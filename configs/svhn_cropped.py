"""Convolutional VAE on SVHN's 32x32 house numbers (Netzer et al. 2011), a mixture of discretized
logistics.

    python3 -m vae_jax.main --config=configs/svhn_cropped.py

The 73,257 images of "train", without "extra".
Not run: needs the prepared svhn_cropped, and a GPU for its 100 epochs.
"""

from vae_jax import default


def get_config():
    config = default()
    config.data.name = "svhn_cropped"
    config.data.binarize = "none"
    config.network.name = "conv"
    config.network.channels = (64, 128, 256)
    config.likelihood.name = "discretized_logistic_mixture"
    config.hypers.latent_dim = 64
    config.hypers.learning_rate = 0.001
    config.eval.nll_samples = 50
    return config
