"""The plain autoencoder on MNIST: the network, data and training of configs/mnist.py without rate and prior.

    python3 -m vae_jax.main --config=configs/ae.py

Its samples are decoded draws from a Gaussian fitted to the training codes.
"""

from vae_jax.config import default


def get_config():
    config = default()
    config.model.name = "ae"
    config.model.code_sampler = "gaussian_fit"
    return config
