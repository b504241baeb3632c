"""Convolutional VAE on CIFAR-10 (Krizhevsky 2009) with a mixture of discretized logistics: bits per
dimension.

    python3 -m vae_jax.main --config=configs/cifar10.py

Not run: needs the prepared cifar10, and a GPU for its 100 epochs.
"""

from vae_jax import default


def get_config():
    config = default()
    config.data.name = "cifar10"
    config.data.binarize = "none"
    config.network.name = "conv"
    config.network.channels = (64, 128, 256)
    config.likelihood.name = "discretized_logistic_mixture"
    config.hypers.latent_dim = 128
    config.hypers.learning_rate = 0.001
    config.eval.nll_samples = 50
    return config
