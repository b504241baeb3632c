"""VAE on scikit-learn's 8x8 digits: nothing to download, seconds to train.

python3 -m vae_jax.main --config=configs/digits.py
"""

from vae_jax.config import default


def get_config():
    config = default()
    config.data.name = "digits"
    config.data.num_valid = 200
    config.data.num_test = 300
    config.model.hidden = (100,)
    config.hypers.latent_dim = 16
    config.train.batch_size = 50
    config.train.num_epochs = 200.0
    config.eval.every_epochs = 10.0
    config.checkpoint.every_epochs = 50.0
    return config
