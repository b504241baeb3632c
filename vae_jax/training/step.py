"""One member's steps: initialize, train, evaluate, sample. Pure and un-jitted; `lift` makes them a population's."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from vae_jax import rng as streams
from vae_jax.metrics.importance_bound import Bound, bound
from vae_jax.models import sample_batch
from vae_jax.objectives import make_loss_fn
from vae_jax.optim import optimizers, schedules
from vae_jax.types import Best, Hypers, Model, Objective, TrainState


class Steps(NamedTuple):
    init: Callable  # (hypers) -> TrainState
    train: Callable  # (state, hypers, store [n, D], index [B]) -> (state, metrics)
    judge: Callable  # (state, hypers, valid_elbo [] of `averaged(state)`) -> state
    evaluate: Callable  # (params, hypers, x [B, D], positions [B], split, num_samples, ...) -> Bound
    sample: Callable  # (params, hypers, rng, num) -> means of p(x|z), z ~ p(z)  [num, ...]


def binarize(x: jax.Array, mode: str, keys: jax.Array) -> jax.Array:
    """Values as float32 in [0, 1] when x [B, D] is uint8, then as `mode` says; `keys` [B], one an example.

    dynamic: x ~ Bernoulli(grey value), fresh for every key (Salakhutdinov & Murray 2008);
    threshold: x > 0.5; none: grey values.
    """
    x = x / jnp.float32(255) if x.dtype == jnp.uint8 else x
    if mode == "dynamic":
        return jax.vmap(jax.random.bernoulli)(keys, x).astype(jnp.float32)
    return (x > 0.5).astype(jnp.float32) if mode == "threshold" else x


def averaged(state: TrainState):
    """The parameters that a validation looks at: their moving average where there is one."""
    return state.params if state.average is None else state.average


def is_running(state: TrainState) -> jax.Array:
    """Whether a member still learns: it has neither diverged nor been stopped."""
    return (state.diverged_at < 0) & (state.stopped_at < 0)


def make_steps(
    config, model: Model, objective: Objective, steps_per_epoch: float, trained: Model | None = None
) -> Steps:
    """The steps of one member, closed over what is static in the config.

    `trained` is `model` as training computes it, where that is another precision.
    """
    trained = trained or model
    tx = optimizers.make_tx(config.train)
    schedule = schedules.make_schedule(config.train, steps_per_epoch)
    mode, num_samples, eval_seed = config.data.binarize, config.objective.num_samples, config.eval.seed
    ema_decay, patience = config.train.ema_decay, config.train.early_stop_epochs * steps_per_epoch

    def init(hypers: Hypers) -> TrainState:
        model_rng, objective_rng = jax.random.split(streams.roots(hypers["seed"]).init)
        params = model.init(model_rng, hypers) | {"objective": objective.init(objective_rng, hypers)}
        return TrainState(
            step=jnp.int32(0),
            params=params,
            opt_state=tx(hypers).init(params),
            average=params if ema_decay else None,
            best=Best(params, jnp.float32(-jnp.inf), jnp.int32(-1)),
            diverged_at=jnp.int32(-1),
            stopped_at=jnp.int32(-1),
        )

    def train(state: TrainState, hypers: Hypers, store: jax.Array, index: jax.Array):
        keys = streams.at_step(hypers["seed"], state.step)
        x = binarize(store[index], mode, streams.fold(keys.binarize, jnp.arange(len(index))))
        now = schedule(hypers, state.step)
        loss_fn = make_loss_fn(trained, objective, now, num_samples)
        (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params, x, keys.loss)
        grad_norm = optimizers.norm(grads)
        updates, opt_state = tx(now).update(grads, state.opt_state, state.params)
        moved = (optax.apply_updates(state.params, updates), opt_state)

        # A member whose loss or gradient is not finite is frozen with its last good parameters.
        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        good = finite & is_running(state)
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(good, new, old), moved, (state.params, state.opt_state)
        )
        average = optimizers.moving_average(state.average, params, jnp.where(good, ema_decay, 1.0), state.step)
        metrics = {"loss": loss} | metrics | {"grad_norm": grad_norm, "clipped": grad_norm > now["clip_norm"]}
        metrics |= {"beta": now["beta"], "learning_rate": now["learning_rate"]}
        diverged_at = jnp.where(~finite & is_running(state), state.step, state.diverged_at)
        moved = state._replace(params=params, opt_state=opt_state, average=average, diverged_at=diverged_at)
        return moved._replace(step=state.step + 1), metrics

    def judge(state: TrainState, hypers: Hypers, valid_elbo: jax.Array) -> TrainState:
        counts = is_running(state) & schedules.beta_is_reached(config.train, hypers, state.step, steps_per_epoch)
        new = Best(averaged(state), valid_elbo, state.step)
        better = counts & (valid_elbo > state.best.valid_elbo)
        best = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, state.best)
        if not patience:
            return state._replace(best=best)
        stops = counts & (best.step >= 0) & (state.step - best.step >= patience)
        return state._replace(best=best, stopped_at=jnp.where(stops, state.step, state.stopped_at))

    def evaluate(params, hypers, x, positions, split: str, num_samples: int, samples_per_step: int) -> Bound:
        keys = streams.of_split(eval_seed, split)
        x = binarize(x, mode, streams.fold(keys.binarize, positions))
        return bound(model, params, x, keys.epsilon, positions, hypers, num_samples, samples_per_step)

    def sample(params, hypers: Hypers, rng: jax.Array, num: int) -> jax.Array:
        return sample_batch(model, params, rng, hypers, num)

    return Steps(init, train, judge, evaluate, sample)
