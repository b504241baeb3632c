"""Convolutional VAE on your own folder of images, cropped to squares and resized to 64x64.

    python3 -m vae_jax.main --config=configs/folder.py --config.data.path=my_images

A Gaussian whose one sigma is at its optimum (Rybkin et al. 2021): NLLs are of a density. Holds out
500 images each for validation and test (data.num_valid, data.num_test).
Hardware: 2 shared CPU cores. Time: about 110 images/s; 300 images x 100 epochs took 5 min 7 s.
No number to expect: the images are yours.
"""

from vae_jax import default


def get_config():
    config = default()
    config.data.name = "folder"
    config.data.resize = (64, 64)
    config.data.num_valid = 500
    config.data.num_test = 500
    config.data.binarize = "none"
    config.network.name = "conv"
    config.network.channels = (16, 32, 64)
    config.likelihood.name = "gaussian_optimal_sigma"
    config.hypers.latent_dim = 64
    config.hypers.learning_rate = 0.001
    config.eval.nll_samples = 50
    return config
