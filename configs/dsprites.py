"""beta-VAE (Higgins et al. 2017) on dSprites: beta 4 and 10 latent units, Bernoulli on its black
and white pixels.

    python3 -m vae_jax.main --config=configs/dsprites.py

It has no splits of its own: 5,000 images each are held out for validation and test.
Not run: needs the prepared dsprites, and a GPU for its 20 epochs of 727,280 images.
"""

from vae_jax import default


def get_config():
    config = default()
    config.data.name = "dsprites"
    config.data.num_test = 5000
    config.data.binarize = "threshold"
    config.network.name = "conv"
    config.network.channels = (32, 32, 64, 64)
    config.hypers.beta = 4.0
    config.hypers.beta_warmup_epochs = 1.0
    config.hypers.latent_dim = 10
    config.hypers.learning_rate = 0.0005
    config.train.num_epochs = 20.0
    config.eval.nll_samples = 50
    return config
