"""Convolutional VAE on CelebA's faces (Liu et al. 2015) at 64x64: the centred 148x148 pixels,
resized.

    python3 -m vae_jax.main --config=configs/celeba.py

CelebA's own 162,770/19,867/19,962 images for train/valid/test. A Gaussian whose one sigma is at its
optimum (Rybkin et al. 2021): NLLs are of a density, and there are no bits per dimension.
Not run: needs the prepared celeb_a, and a GPU for its 50 epochs.
"""

from vae_jax import default


def get_config():
    config = default()
    config.data.name = "celeb_a"
    config.data.crop = "148x148"
    config.data.resize = (64, 64)
    config.data.num_valid = 0
    config.data.binarize = "none"
    config.network.name = "conv"
    config.network.channels = (32, 64, 128, 256)
    config.likelihood.name = "gaussian_optimal_sigma"
    config.hypers.latent_dim = 128
    config.hypers.learning_rate = 0.001
    config.train.num_epochs = 50.0
    config.eval.nll_samples = 50
    return config
