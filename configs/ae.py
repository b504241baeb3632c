"""The plain autoencoder on MNIST: the network, data and training of configs/mnist.py without rate
and prior.

    python3 -m vae_jax.main --config=configs/ae.py

Hardware: 2 shared CPU cores. Time: 4 min 5 s. Expect a test distortion of 32.07 nats and a squared
error of 0.0121 per pixel (configs/mnist.py: 67.25 and 0.0225). Its samples are decoded draws from a
Gaussian fitted to the training codes, and look like strokes rather than digits.
"""

from vae_jax import default


def get_config():
    config = default()
    config.model.name = "ae"
    config.model.code_sampler = "gaussian_fit"
    return config
