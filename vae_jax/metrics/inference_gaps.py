"""Inference gaps of one example (Cremer, Li & Duvenaud 2018, arXiv:1801.03558, equation 3).

    log p(x) - ELBO[q] = (log p(x) - ELBO[q*])  +  (ELBO[q*] - ELBO[q])
                          approximation gap        amortization gap

q is the encoder's posterior, q* the best of its family for this x alone: the mean and log variance
of every unit are free, and of several stochastic layers each conditional has a free offset on
both, so that q is in the family. The approximation gap is due to the family of q, the amortization
gap to one encoder for all x. Both are estimates: a lower bound on log p(x) makes the approximation
gap too small; a q* that has not converged makes it too large, and the amortization gap too small by
as much.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from vae_jax import rng as streams
from vae_jax.types import Example, Hypers, Model, Params


def best_offset(
    model: Model,
    params: Params,
    x: Example | jax.Array,
    rng: jax.Array,
    hypers: Hypers,
    num_steps: int,
    num_samples: int,
    learning_rate: float = 1e-2,
) -> Any:
    """q* - q, a tree like `Draw.posterior`, by Adam from 0.

    The gradient is that of the path alone (Roeder et al. 2017, arXiv:1703.09194): its variance is 0
    where q is the true posterior. The learning rate falls to zero along a cosine, which averages
    the remaining noise.

    Args:
      model: whose draws have log_w.
      params: of the model.
      x: one example.
      rng: of the noise.
      hypers: of one member.
      num_steps: of Adam.
      num_samples: draws of q in each step.
      learning_rate: the first one.
    """
    tx = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))

    def loss(offset: Any, rng: jax.Array) -> jax.Array:
        def log_w(key: jax.Array) -> jax.Array:
            return model.draw(params, x, key, hypers, score=False, offset=offset).log_w

        return -jnp.mean(jax.vmap(log_w)(jax.random.split(rng, num_samples)))

    def step(state: Any, t: jax.Array) -> tuple[Any, None]:
        offset, opt_state = state
        gradient = jax.grad(loss)(offset, jax.random.fold_in(rng, t))
        updates, opt_state = tx.update(gradient, opt_state)
        return (optax.apply_updates(offset, updates), opt_state), None

    like = jax.eval_shape(model.draw, params, x, rng, hypers).posterior
    start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
    (offset, _), _ = jax.lax.scan(step, (start, tx.init(start)), jnp.arange(num_steps))
    return offset


def elbo(
    model: Model,
    params: Params,
    x: Example | jax.Array,
    offset: Any,
    rng: jax.Array,
    hypers: Hypers,
    num_samples: int,
    samples_per_step: int,
) -> jax.Array:
    """E_q[log p(x, z) - log q(z|x)] of the encoder's q plus `offset`, in nats  [].

    The estimate has variance 0 where q is the true posterior. Two offsets with the same `rng` are
    compared on the same noise.

    Args:
      model: whose draws have log_w.
      params: of the model.
      x: one example.
      offset: a tree like `Draw.posterior`; None: the encoder's q itself.
      rng: of the noise.
      hypers: of one member.
      num_samples: draws of q, rounded up to whole steps.
      samples_per_step: draws at a time.
    """

    def log_w(key: jax.Array) -> jax.Array:
        return model.draw(params, x, key, hypers, offset=offset).log_w

    def add(total: jax.Array, step: jax.Array) -> tuple[jax.Array, None]:
        samples = step * samples_per_step + jnp.arange(samples_per_step)
        return total + jnp.sum(jax.vmap(log_w)(streams.fold(rng, samples))), None

    num_steps = -(-num_samples // samples_per_step)
    total, _ = jax.lax.scan(add, jnp.zeros(()), jnp.arange(num_steps))
    return total / (num_steps * samples_per_step)
