"""One member's steps: initialize, train, evaluate, sample. Pure; `population.lift` makes them a
population's."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from vae_jax import config as settings
from vae_jax import rng as streams
from vae_jax.config import Catalogue
from vae_jax.data.kinds import View
from vae_jax.metrics.importance_bound import Bound, bound
from vae_jax.models.draws import sample_batch
from vae_jax.objectives import make_loss_fn
from vae_jax.optim import optimizers, schedules
from vae_jax.types import Best, Example, Hypers, Model, Objective, TrainState


class Steps(NamedTuple):
    init: Callable[[Hypers], TrainState]
    train: Callable  # (state, hypers, store of rows [n, D], index [B]) -> (state, metrics)
    # (state, hypers, valid_elbo [] of `averaged(state)`) -> state, with the best parameters so far;
    # it ends a member whose patience is over
    after_validation: Callable[..., TrainState]
    # (params, hypers, rows [B, D], positions [B], split, num_samples, samples_per_step) -> Bound;
    # the split is its index in rng.SPLITS, a value: what is compiled serves every split
    evaluate: Callable[..., Bound]
    # (params, hypers, rng, num, condition) -> means of p(x|z), z ~ p(z)  [num, ...]
    sample: Callable[..., jax.Array]


def averaged(state: TrainState):
    """The parameters that a validation looks at: their moving average where there is one."""
    return state.params if state.average is None else state.average


def is_running(state: TrainState) -> jax.Array:
    """Whether a member still learns: it has neither diverged nor been stopped."""
    return (state.diverged_at < 0) & (state.stopped_at < 0)


def make_steps(
    config,
    model: Model,
    trained: Model,
    objective: Objective,
    catalogue: Catalogue,
    view: View,
    steps_per_epoch: float,
) -> Steps:
    """The steps of one member, closed over what is static in the config.

    Args:
      trained: `model` as training computes it, which may be in another precision.
      catalogue: has the optimizer and the schedules that the config names.
    """
    named = settings.flatten(config)
    optimizer = catalogue.chosen("optimizer", named)
    decay = catalogue.chosen("learning_rate_schedule", named).make(config.schedule)
    position = catalogue.chosen("beta_schedule", named).make(config.schedule)
    tx = optimizers.make_tx(partial(optimizer.make, config.optimizer), objective)
    # schedule_epochs 0 stands for num_epochs: config.check has put that in its place
    horizon = config.train.schedule_epochs * steps_per_epoch
    at = schedules.make_schedule(decay, position, objective, horizon, steps_per_epoch)
    num_samples, eval_seed = config.objective.num_samples, config.eval.seed
    ema_decay = config.train.ema_decay
    patience = config.train.early_stop_epochs * steps_per_epoch

    def init(hypers: Hypers) -> TrainState:
        model_rng, objective_rng = jax.random.split(streams.roots(hypers["seed"]).init)
        params = model.init(model_rng, hypers)
        params = params | {"objective": objective.init(objective_rng, hypers)}
        return TrainState(
            step=jnp.int32(0),
            params=params,
            opt_state=tx(hypers).init(params),
            average=params if ema_decay else None,
            best=Best(params, jnp.float32(-jnp.inf), jnp.int32(-1)),
            diverged_at=jnp.int32(-1),
            stopped_at=jnp.int32(-1),
        )

    def train(state: TrainState, hypers: Hypers, store: Example, index: jax.Array):
        keys = streams.at_step(hypers["seed"], state.step)
        rows = jax.tree.map(lambda leaf: leaf[index], store)
        x = view.to_example(rows, streams.fold(keys.binarize, jnp.arange(len(index))))
        now = at(hypers, state.step)
        loss_fn = make_loss_fn(trained, objective, now, num_samples)
        value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, metrics), grads = value_and_grad(state.params, x, keys.loss)
        grad_norm = optimizers.norm(grads)
        updates, opt_state = tx(now).update(grads, state.opt_state, state.params)
        moved = optax.apply_updates(state.params, updates)

        # A member whose loss or gradient is not finite is frozen with its last good parameters. The
        # optimizer's state, which it never needs again, goes on: to keep that, too, would cost a
        # quarter of a step of a small batch.
        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        good = finite & is_running(state)
        params = jax.tree.map(lambda new, old: jnp.where(good, new, old), moved, state.params)
        keep = jnp.where(good, ema_decay, 1.0)
        average = optimizers.moving_average(state.average, params, keep, state.step)
        metrics = {"loss": loss} | metrics
        metrics |= {"grad_norm": grad_norm, "clipped": grad_norm > now["clip_norm"]}
        metrics |= {"beta": now["beta"], "learning_rate": now["learning_rate"]}
        stops = ~finite & is_running(state)
        after = state._replace(
            step=state.step + 1,
            params=params,
            opt_state=opt_state,
            average=average,
            diverged_at=jnp.where(stops, state.step, state.diverged_at),
        )
        return after, metrics

    def after_validation(state: TrainState, hypers: Hypers, valid_elbo: jax.Array) -> TrainState:
        reached = schedules.beta_is_reached(position, hypers, state.step, steps_per_epoch)
        counts = is_running(state) & reached
        new = Best(averaged(state), valid_elbo, state.step)
        better = counts & (valid_elbo > state.best.valid_elbo)
        best = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, state.best)
        if not patience:
            return state._replace(best=best)
        stops = counts & (best.step >= 0) & (state.step - best.step >= patience)
        return state._replace(best=best, stopped_at=jnp.where(stops, state.step, state.stopped_at))

    def evaluate(
        params, hypers, rows: Example, positions, split, num_samples: int, per_step: int
    ) -> Bound:
        keys = streams.of_split(eval_seed, split)
        x = view.to_example(rows, streams.fold(keys.binarize, positions))
        return bound(model, params, x, keys.epsilon, positions, hypers, num_samples, per_step)

    def sample(params, hypers: Hypers, rng: jax.Array, num: int, condition=None) -> jax.Array:
        positions = jnp.arange(num)
        return sample_batch(model, params, rng, hypers, positions, condition=condition)

    return Steps(init, train, after_validation, evaluate, sample)
