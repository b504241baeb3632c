"""Where the bound is lost (Cremer, Li & Duvenaud 2018, arXiv:1801.03558, equation 3), for one example.

    log p(x) - ELBO[q] = (log p(x) - ELBO[q*])  +  (ELBO[q*] - ELBO[q])
                          approximation gap        amortization gap

q is what the encoder says, q* the best of all diagonal Gaussians for this x alone. What q* leaves is owed to the
family of q; what lies between the two, to an encoder that must serve every x. Both are estimates: a log p(x) from
below makes the approximation gap too small, a q* that has not arrived makes it too large, at amortization's cost.
"""

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
    """q*, by Adam from the encoder's q; the learning rate falls to zero along a cosine, which averages the noise out.

    The gradient is that of the path alone (Roeder et al. 2017): it vanishes, noise and all, where q is the posterior.
    """
    tx = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))

    def loss(q: Gaussian, rng: jax.Array) -> jax.Array:
        constant = jax.lax.stop_gradient(q)

        def log_w(eps):
            z = distributions.sample(q, eps)
            return model.log_joint(params, x, z, hypers) - distributions.log_prob(constant, z).sum()

        return -jnp.mean(jax.vmap(log_w)(jax.random.normal(rng, (num_samples, *q.mean.shape))))

    def step(state, t):
        q, opt_state = state
        updates, opt_state = tx.update(jax.grad(loss)(q, jax.random.fold_in(rng, t)), opt_state)
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
    """E_q[log p(x, z) - log q(z)], which has no noise where q is the posterior; one `rng` compares two q on the same.

    `num_samples`, rounded up to whole steps, are drawn.
    """

    def log_w(key):
        z = distributions.sample(q, jax.random.normal(key, q.mean.shape))
        return model.log_joint(params, x, z, hypers) - distributions.log_prob(q, z).sum()

    def add(total, step):
        samples = step * samples_per_step + jnp.arange(samples_per_step)
        return total + jnp.sum(jax.vmap(log_w)(streams.fold(rng, samples))), None

    num_steps = -(-num_samples // samples_per_step)
    total, _ = jax.lax.scan(add, jnp.zeros(()), jnp.arange(num_steps))
    return total / (num_steps * samples_per_step)
