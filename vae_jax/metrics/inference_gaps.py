"""Inference gaps of one example (Cremer, Li & Duvenaud 2018, arXiv:1801.03558, equation 3).

    log p(x) - ELBO[q] = (log p(x) - ELBO[q*])  +  (ELBO[q*] - ELBO[q])
                          approximation gap        amortization gap

q is the encoder's posterior, q* the best diagonal Gaussian for this x alone. The approximation gap
is due to the family of q, the amortization gap to one encoder for all x. Both are estimates: a
lower bound on log p(x) makes the approximation gap too small; a q* that has not converged makes it
too large, and the amortization gap too small by as much.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from vae_jax import distributions
from vae_jax import rng as streams
from vae_jax.distributions import Gaussian
from vae_jax.types import Example, Hypers, Model, Params


def best_posterior(
    model: Model,
    params: Params,
    x: Example | jax.Array,
    rng: jax.Array,
    hypers: Hypers,
    num_steps: int,
    num_samples: int,
    learning_rate: float = 1e-2,
) -> Gaussian:
    """q* [Z], by Adam from the encoder's q.

    The gradient is that of the path alone (Roeder et al. 2017, arXiv:1703.09194): its variance is 0
    where q is the true posterior. The learning rate falls to zero along a cosine, which averages
    the remaining noise.

    Args:
      model: with log_joint, and a Gaussian posterior.
      params: of the model.
      x: one example.
      rng: of the noise.
      hypers: of one member.
      num_steps: of Adam.
      num_samples: draws of q in each step.
      learning_rate: the first one.
    """
    log_joint = model.log_joint
    assert log_joint is not None, "z has no density"
    tx = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))

    def loss(q: Gaussian, rng: jax.Array) -> jax.Array:
        constant = jax.lax.stop_gradient(q)

        def log_w(eps: jax.Array) -> jax.Array:
            z = distributions.sample(q, eps)
            return log_joint(params, x, z, hypers) - distributions.log_prob(constant, z).sum()

        return -jnp.mean(jax.vmap(log_w)(jax.random.normal(rng, (num_samples, *q.mean.shape))))

    def step(state: Any, t: jax.Array) -> tuple[Any, None]:
        q, opt_state = state
        gradient = jax.grad(loss)(q, jax.random.fold_in(rng, t))
        updates, opt_state = tx.update(gradient, opt_state)
        return (optax.apply_updates(q, updates), opt_state), None

    q = model.encode(params, x, hypers)
    (q, _), _ = jax.lax.scan(step, (q, tx.init(q)), jnp.arange(num_steps))
    return q


def elbo(
    model: Model,
    params: Params,
    x: Example | jax.Array,
    q: Gaussian,
    rng: jax.Array,
    hypers: Hypers,
    num_samples: int,
    samples_per_step: int,
) -> jax.Array:
    """E_q[log p(x, z) - log q(z)], in nats  [].

    The estimate has variance 0 where q is the true posterior. Two q with the same `rng` are
    compared on the same noise.

    Args:
      model: with log_joint.
      params: of the model.
      x: one example.
      q: the posterior  [Z].
      rng: of the noise.
      hypers: of one member.
      num_samples: draws of q, rounded up to whole steps.
      samples_per_step: draws at a time.
    """

    log_joint = model.log_joint
    assert log_joint is not None, "z has no density"

    def log_w(key: jax.Array) -> jax.Array:
        z = distributions.sample(q, jax.random.normal(key, q.mean.shape))
        return log_joint(params, x, z, hypers) - distributions.log_prob(q, z).sum()

    def add(total: jax.Array, step: jax.Array) -> tuple[jax.Array, None]:
        samples = step * samples_per_step + jnp.arange(samples_per_step)
        return total + jnp.sum(jax.vmap(log_w)(streams.fold(rng, samples))), None

    num_steps = -(-num_samples // samples_per_step)
    total, _ = jax.lax.scan(add, jnp.zeros(()), jnp.arange(num_steps))
    return total / (num_steps * samples_per_step)
