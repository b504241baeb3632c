"""VAE with two hidden layers of 200 on MNIST as binarized once and for all by Larochelle & Murray
2011.

    python3 -m vae_jax.main --config=configs/binarized_mnist.py

Its values are 0 and 1: a threshold leaves them as they are. 50,000/10,000/10,000 for
train/valid/test are its own. Numbers compare with those of fixed binarization only, not with
configs/mnist.py.
Not run: needs the prepared binarized_mnist.
"""

from vae_jax import default


def get_config():
    config = default()
    config.data.name = "binarized_mnist"
    config.data.num_valid = 0
    config.data.binarize = "threshold"
    return config
