"""Convolutional VAE on your own folder of images, cropped to squares and resized to 64x64.

    python3 -m vae_jax.main --config=configs/folder.py --config.data.path=my_images

FOLDER_NUMBERS
"""

from vae_jax.config import default


def get_config():
    config = default()
    config.data.name = "folder"
    config.data.resize = (64, 64)
    config.data.num_valid = 500
    config.data.num_test = 500
    config.data.binarize = "none"
    config.model.encoder = "conv"
    config.model.channels = (16, 32, 64)
    config.model.likelihood = "gaussian_optimal_sigma"
    config.hypers.latent_dim = 64
    config.hypers.learning_rate = 0.001
    return config
