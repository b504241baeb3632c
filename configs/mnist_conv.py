"""Residual convolutional VAE on MNIST, binarized anew at every step: 28 -> 14 -> 7 -> 4 pixels a side.

python3 -m vae_jax.main --config=configs/mnist_conv.py
"""

from vae_jax.config import default


def get_config():
    config = default()
    config.model.encoder = "conv"
    config.model.channels = (16, 32, 64)
    config.hypers.latent_dim = 32
    config.hypers.learning_rate = 2e-3
    config.train.num_epochs = 30.0
    config.checkpoint.every_epochs = 1.0
    config.eval.nll_samples = 100
    return config
