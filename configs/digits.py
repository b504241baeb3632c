"""VAE on scikit-learn's 8x8 digits: nothing to download, a minute to train.

    python3 -m vae_jax.main --config=configs/digits.py

Hardware: 2 shared CPU cores. Time: 48 s from command to end, with other work beside it. Expect a
test NLL of 22.71 +- 0.21 nats (500 importance samples, 300 test digits, binarized once with
eval.seed; the error is over examples), 0.512 bits per dimension, an ELBO of -23.05 and 11 active
units of 16.
"""

from vae_jax import default


def get_config():
    config = default()
    config.data.name = "digits"
    config.data.num_valid = 200
    config.data.num_test = 300
    config.network.hidden = (100,)
    config.hypers.latent_dim = 16
    config.train.batch_size = 50
    config.train.num_epochs = 200.0
    config.eval.every_epochs = 10.0
    config.checkpoint.every_epochs = 50.0
    return config
