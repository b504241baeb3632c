"""Gradient estimators of multi-sample objectives.

Such an objective is a function F of the K log-weights of an example,

    log w_k = log p(x|z_k) + beta (log p(z_k) - log q(z_k|x)),    z_k ~ q(z|x)

to be maximized: their mean is the ELBO, the log of the mean of the w_k the bound of IWAE. With
F_k = dF / d log w_k and F_kk its second derivative, the gradient of E[F] is the expectation of

    reparameterized   dF, through z_k and through the parameters of log q. Kingma & Welling 2014.
    stl               the same without the parameters of log q, whose part is zero in expectation
                      for the ELBO, and not for others. "Sticking the landing", Roeder et al. 2017
                      (arXiv:1703.09194), equation 8.
    dreg              weight F_k of each log w_k, and F_k - beta F_kk of its path through z_k, none
                      of the parameters of log q. For IWAE, at beta = 1, these are w~_k and w~_k^2,
                      w~ the normalized weights. "Doubly reparameterized", Tucker et al. 2019
                      (arXiv:1810.04152), equation 8; with several layers Bauer & Mnih 2021
                      (arXiv:2101.11046).
    score_function    no path: (F - F_without_k) d log q(z_k|x) beside weight F_k of each log w_k,
                      where F_without_k has the mean of the other log-weights in place of log w_k.
                      For the ELBO this is VarGrad (Richter et al. 2020, arXiv:2010.10436), for
                      IWAE VIMCO (Mnih & Rezende 2016, arXiv:1602.06725, equation 10).

Why a weight of the path: E[F_k d log q(z_k|x)], the part of the score, is itself a gradient of an
expectation over z_k with respect to q, and to reparameterize it gives E[F_kk d log w_k], through
z_k alone.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from vae_jax.types import Draw, Field, Hypers, Params

# (log_w [K], hypers) -> F []
Bound = Callable[[jax.Array, Hypers], jax.Array]

GRADIENT = Field(
    "reparameterized",
    "estimator of the gradient",
    choices=("reparameterized", "stl", "dreg", "score_function"),
)


def weighted(draw: Draw, beta) -> jax.Array:
    """log p(x|z) + beta (log p(z) - log q(z|x)) of each draw [B, K]."""
    return beta * draw.log_w + (beta - 1) * draw.distortion


def surrogate(
    bound: Bound, gradient: str, params: Params, draws: Callable, hypers: Hypers
) -> tuple[jax.Array, Draw]:
    """(-F averaged over the batch [], the draws): its gradient is the estimator's.

    Args:
      bound: F.
      gradient: one of `GRADIENT`.
      draws: as `types.Objective.loss` gets it.
    """
    constant = jax.lax.stop_gradient

    def value(log_w: jax.Array) -> jax.Array:
        return jnp.mean(jax.vmap(lambda one: bound(one, hypers))(log_w))

    if gradient in ("reparameterized", "stl"):
        draw = draws(params) if gradient == "reparameterized" else draws(params, score=False)
        return -value(weighted(draw, hypers["beta"])), draw

    log_w = constant(weighted(draws(constant(params)), hypers["beta"]))
    first = jax.vmap(jax.grad(lambda one: bound(one, hypers)))(log_w)
    if gradient == "dreg":
        second = jax.vmap(lambda one: _second_derivatives(bound, one, hypers))(log_w)
        through_z = first - hypers["beta"] * second
        # An F_k that is zero has an F_kk that is zero: weights below the smallest float32.
        path = jnp.where(first == 0, 0.0, through_z / jnp.where(first == 0, 1.0, first))
        draw = draws(params, path)
        moving = first * weighted(draw, hypers["beta"])
    else:
        no_path = jnp.zeros_like(log_w)
        draw = draws(params, no_path, True)
        # log q(z|x), but for its value, which is zero.
        log_q = draws(params, no_path, False).log_w - draw.log_w
        without = jax.vmap(lambda one: _without_each(bound, one, hypers))(log_w)
        signal = jax.vmap(lambda one: bound(one, hypers))(log_w)[:, None] - without
        moving = first * weighted(draw, hypers["beta"]) + signal * log_q
    moving = jnp.mean(jnp.sum(moving, axis=1))
    return -value(log_w) - (moving - constant(moving)), draw


def _second_derivatives(bound: Bound, log_w: jax.Array, hypers: Hypers) -> jax.Array:
    """d^2 F / d (log w_k)^2  [K]."""

    def of(direction: jax.Array) -> jax.Array:
        gradient = jax.grad(lambda one: bound(one, hypers))
        return jnp.vdot(direction, jax.jvp(gradient, (log_w,), (direction,))[1])

    return jax.vmap(of)(jnp.eye(len(log_w)))


def _without_each(bound: Bound, log_w: jax.Array, hypers: Hypers) -> jax.Array:
    """F with the mean of the other log-weights in place of each  [K]."""
    others = (jnp.sum(log_w) - log_w) / (len(log_w) - 1)
    rows = jnp.where(jnp.eye(len(log_w), dtype=bool), others[:, None], log_w[None, :])
    return jax.vmap(lambda one: bound(one, hypers))(rows)


def needs_two_samples(config: dict, _data=None) -> str:
    """What is wrong where an estimator needs other samples than the one that it weighs."""
    if config["objective.gradient"] != "score_function" or config["objective.num_samples"] > 1:
        return ""
    return (
        "objective.gradient 'score_function' compares each sample with the others: set "
        "objective.num_samples to 2 or more"
    )
