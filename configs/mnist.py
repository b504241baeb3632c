"""VAE on MNIST."""

from vae_jax.config import default


def get_config():
    config = default()
    return config
