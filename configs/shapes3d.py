"""beta-VAE (Higgins et al. 2017) on 3D Shapes (Burgess & Kim 2018): beta 4 and 10 latent units,
64x64 colour.

    python3 -m vae_jax.main --config=configs/shapes3d.py

It has no splits of its own: 5,000 images each are held out for validation and test.
Not run: needs the prepared shapes3d, and a GPU for its 20 epochs of 470,000 images.
"""

from vae_jax import default


def get_config():
    config = default()
    config.data.name = "shapes3d"
    config.data.num_test = 5000
    config.data.binarize = "none"
    config.network.name = "conv"
    config.network.channels = (32, 32, 64, 64)
    config.likelihood.name = "gaussian_optimal_sigma"
    config.hypers.beta = 4.0
    config.hypers.beta_warmup_epochs = 1.0
    config.hypers.latent_dim = 10
    config.hypers.learning_rate = 0.0005
    config.train.num_epochs = 20.0
    config.eval.nll_samples = 50
    return config
