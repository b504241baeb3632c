"""The vocabulary of the project: what every layer above passes around. No logic.

Axis letters: B batch, K posterior samples, Z latent units, D values of one example, N members of the
population, T training steps per call. Everything named `loss` goes down; `elbo` and `bound` go up; all
are in nats per example.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Params = Any  # a pytree of arrays
Hypers = dict[str, jax.Array]  # the keys of config.hypers: [] each for one member, [N] for the population


class Example(NamedTuple):
    """One example. Wherever a model takes an example, a bare array `x` stands for `Example(x)`."""

    x: jax.Array  # the values, any shape; a model flattens them as it needs
    label: jax.Array | None = None  # a condition, or the colour of a plot
    observed: jax.Array | None = None  # 1 = seen, 0 = missing, the shape of x; None = all seen


class Draw(NamedTuple):
    """What one posterior draw z ~ q(z|x) of one example is worth, in nats.

    A deterministic code has no density: rate and log_w are then None, and every draw is the same.
    """

    distortion: jax.Array  # -log p(x|z), observed values only  []
    rate: jax.Array | None  # KL(q(z|x) || p(z)) per latent unit, analytic where it is known  [Z]
    log_w: jax.Array | None  # log p(x, z) - log q(z|x): the log of an importance weight  []
    z: Any  # the draw  [Z]
    posterior: Any  # the parameters of q(z|x)


class Likelihood(NamedTuple):
    """p(x|z) of D independent values, element by element.

    `theta` holds the likelihood's own parameters, `out` [D, channels] is the decoder's output, x is [D].
    """

    support: str  # the values that x may take: "binary" {0, 1} | "unit" [0, 1] | "levels" {k/255} | "real"
    init: Callable  # () -> theta
    start: Callable  # (mean of the data [D]) -> out [D, channels] whose p(x|z) has nearly that mean
    log_prob: Callable  # (theta, out, x) -> [D]
    mean: Callable  # (theta, out) -> [D]
    sample: Callable  # (theta, rng, out) -> [D]

    @property
    def mass(self) -> bool:
        """Whether log_prob is the log of a probability, not of a density."""
        return self.support in ("binary", "levels")


class Model(NamedTuple):
    """Pure functions of one example. `params` has the top-level keys encoder, decoder and prior.

    log_q and log_joint are None where z has no density, sample_prior where nothing says how codes are distributed.
    """

    init: Callable  # (rng, hypers) -> params
    encode: Callable  # (params, x, hypers) -> posterior
    log_q: Callable | None  # (params, x, z, hypers) -> []: log q(z|x) of any z, not only the drawn one
    log_joint: Callable | None  # (params, x, z, hypers) -> []: log p(x, z)
    draw: Callable  # (params, x, rng, hypers, path_weight=None) -> Draw
    decode: Callable  # (params, z, rng=None) -> mean of p(x|z), or a sample of it when rng is given
    sample_prior: Callable | None  # (params, rng, hypers) -> z
    # (params, mean [Z], covariance [Z, Z]) of the training set's codes -> params; for what is fitted after training
    fit_prior: Callable | None = None
    log_prior: Callable | None = None  # (params, z, hypers) -> []: log p(z), for annealing that starts there


class Objective(NamedTuple):
    """Turns the draws of a batch into one scalar to minimize, and its metrics."""

    init: Callable  # (rng, hypers) -> params["objective"], {} unless it has networks of its own
    loss: Callable  # (params, draws, x, rng, hypers) -> (loss [], metrics); draws(path_weight=None) -> Draw [B, K]


class Best(NamedTuple):
    """The parameters with the highest validation ELBO so far: averaged ones where there is an average."""

    params: Params
    valid_elbo: jax.Array  # [], -inf until the first validation that counts
    step: jax.Array  # [] int32, -1 until then


class TrainState(NamedTuple):
    """The whole state of one member; with a leading axis N, of the population. Nothing random is in it."""

    step: jax.Array  # [] int32: steps taken
    params: Params
    opt_state: Any
    average: Params | None  # the exponential moving average of params; None without train.ema_decay
    best: Best
    diverged_at: jax.Array  # [] int32: the first step whose loss or gradient was not finite, else -1
    stopped_at: jax.Array  # [] int32: the step after which no training was worth it (early stopping), else -1
