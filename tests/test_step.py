from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from making import check, make_program, of_objective

from vae_jax import default, rng
from vae_jax.data.kinds import binarize
from vae_jax.objectives import OBJECTIVES
from vae_jax.optim import optimizers, schedules
from vae_jax.types import Example, Objective

X = Example(jnp.asarray(np.random.default_rng(0).integers(0, 256, (50, 30), np.uint8)))
ELBO = OBJECTIVES["elbo"].make(default().objective, None)


def program(config, parts=()):
    x_mean = np.full((6, 5, 1), 0.4, np.float32)
    return make_program(check(config, parts), x_mean, 200, parts=parts)


def one(program):
    return jax.tree.map(lambda a: a[0], program.hypers)


def hypers(**values):
    base = {"learning_rate": 2.0, "lr_final_fraction": 0.1, "beta": 3.0}
    no_warm_ups = {"lr_warmup_epochs": 0.0, "beta_warmup_epochs": 0.0}
    return {
        k: jnp.float32(v) for k, v in (dict(default().hypers) | base | no_warm_ups | values).items()
    }


def schedule(decay):
    """Of a horizon of 10 epochs, 10 steps each."""
    section = default().schedule
    decay = schedules.LEARNING_RATE_SCHEDULES[decay].make(section)
    position = schedules.BETA_SCHEDULES["linear"].make(section)
    return schedules.make_schedule(decay, position, ELBO, 100.0, steps_per_epoch=10.0)


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("constant", [2.0, 2.0, 2.0, 2.0]),
        ("linear", [2.0, 1.1, 0.2, 0.2]),
        ("cosine", [2.0, 1.1, 0.2, 0.2]),
    ],
)
def test_learning_rate_decays_to_its_fraction_and_stays(decay, expected):
    at = schedule(decay)
    found = [at(hypers(), step)["learning_rate"] for step in (0, 50, 100, 1000)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("rounded", [False, True])
def test_stages_are_those_of_burda(rounded):
    """Stage i has 3^i epochs, 3,280 in all, at the rate 1e-3 * 10^(-i/7)."""
    section = default().schedule
    section.rounded_rates = rounded
    decay = schedules.LEARNING_RATE_SCHEDULES["stages"].make(section)
    starts = (0, 1, 4, 13, 40, 121, 364, 1093)
    rates = np.array([1e-3, 7.2e-4, 5.2e-4, 3.7e-4, 2.7e-4, 1.9e-4, 1.4e-4, 1e-4])
    if rounded:
        rates = np.array([1e-3, 7e-4, 5e-4, 4e-4, 3e-4, 2e-4, 1e-4, 1e-4])
    for epochs in (np.add(starts, 0.01), np.append(starts[1:], 3280) - 0.01):
        found = [1e-3 * float(decay(epoch / 3280, 0.1)) for epoch in epochs]
        np.testing.assert_allclose(found, rates, rtol=0.02)


def test_warm_ups_rise_linearly_from_the_first_step():
    at = schedule("constant")
    values = [
        at(hypers(lr_warmup_epochs=1.0, beta_warmup_epochs=2.0), step)
        for step in (0, 4, 9, 10, 19, 500)
    ]
    np.testing.assert_allclose(
        [v["learning_rate"] for v in values], [0.2, 1.0, 2.0, 2.0, 2.0, 2.0], rtol=1e-6
    )
    np.testing.assert_allclose(
        [v["beta"] for v in values], [0.15, 0.75, 1.5, 1.65, 3.0, 3.0], rtol=1e-6
    )


def test_binarize_modes():
    keys = rng.fold(jax.random.key(0), jnp.arange(2000))
    grey = np.tile(np.array([[0, 51, 128, 255]], np.uint8), (2000, 1))
    np.testing.assert_allclose(
        binarize(jnp.asarray(grey), "none", keys)[0], np.array([0, 51, 128, 255]) / 255, rtol=1e-6
    )
    np.testing.assert_array_equal(binarize(jnp.asarray(grey), "threshold", keys)[0], [0, 0, 1, 1])
    dynamic = np.asarray(binarize(jnp.asarray(grey), "dynamic", keys))
    assert set(np.unique(dynamic)) == {0.0, 1.0}
    np.testing.assert_allclose(dynamic.mean(0), np.array([0, 51, 128, 255]) / 255, atol=0.05)
    again = np.asarray(binarize(jnp.asarray(grey[:7]), "dynamic", keys[:7]))
    np.testing.assert_array_equal(again, dynamic[:7])


def test_gradients_are_clipped_to_the_global_norm():
    sgd = partial(optimizers.OPTIMIZERS["sgd"].make, default().optimizer)
    tx = optimizers.make_tx(sgd, ELBO)(hypers(clip_norm=1.0, learning_rate=0.1))
    grads = {"a": jnp.array([30.0, 40.0]), "b": jnp.zeros(1)}
    updates, _ = tx.update(grads, tx.init(grads), grads)
    np.testing.assert_allclose(updates["a"], -0.1 * np.array([0.6, 0.8]), rtol=1e-5)


def test_a_member_that_diverges_keeps_its_last_good_parameters(config):
    p = program(config)
    h, index = one(p), jnp.arange(20)
    train = jax.jit(p.steps.train)
    good, metrics = train(jax.jit(p.steps.init)(h), h, X, index)
    assert good.diverged_at == -1 and np.isfinite(metrics["loss"]) and good.step == 1
    bad, metrics = train(good, h | {"beta": jnp.float32(jnp.nan)}, X, index)
    assert not np.isfinite(metrics["loss"])
    assert bad.diverged_at == 1 and bad.step == 2
    later, _ = train(bad, h, X, index)
    assert later.diverged_at == 1
    jax.tree.map(np.testing.assert_array_equal, good.params, later.params)


def test_best_counts_after_the_warm_up_only_and_keeps_the_highest(config):
    config.hypers.beta_warmup_epochs = 1.0
    p = program(config)  # 10 steps an epoch
    h = one(p)
    state = jax.jit(p.steps.init)(h)

    def at(state, step, elbo):
        state = state._replace(
            step=jnp.int32(step), params=jax.tree.map(lambda a: a + 1, state.params)
        )
        return p.steps.after_validation(state, h, jnp.float32(elbo))

    state = at(state, 9, -1.0)
    assert state.best.step == -1 and state.best.valid_elbo == -np.inf
    state = at(state, 10, -5.0)
    best = state.params
    assert state.best.step == 10
    state = at(state, 20, -6.0)
    assert state.best.step == 10 and state.best.valid_elbo == -5.0
    for a, b in zip(jax.tree.leaves(best), jax.tree.leaves(state.best.params), strict=True):
        np.testing.assert_array_equal(a, b)
    assert at(state, 30, -4.0).best.step == 30


@pytest.mark.slow  # without jit every operation is compiled by itself
def test_a_compiled_step_is_the_step(config):
    p = program(config)
    h, x, index = one(p), X, jnp.arange(20)
    state = p.steps.init(h)
    plain, compiled = (
        train(state, h, x, index) for train in (p.steps.train, jax.jit(p.steps.train))
    )
    for a, b in zip(jax.tree.leaves(plain[1]), jax.tree.leaves(compiled[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)
    for a, b in zip(
        jax.tree.leaves(plain[0].params), jax.tree.leaves(compiled[0].params), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, jax.jit(p.steps.init)(h).step, state.step)


def test_noise_of_a_step_is_a_function_of_seed_and_step(config):
    p = program(config)
    h = one(p)
    state, train = jax.jit(p.steps.init)(h), jax.jit(p.steps.train)
    first = train(state, h, X, jnp.arange(20))[1]["loss"]
    assert first == train(state, h, X, jnp.arange(20))[1]["loss"]
    assert first != train(state._replace(step=jnp.int32(1)), h, X, jnp.arange(20))[1]["distortion"]
    assert first != train(state, h | {"seed": jnp.int32(1)}, X, jnp.arange(20))[1]["loss"]


def test_no_two_streams_share_a_key():
    roots = rng.roots(0)
    keys = [
        *roots,
        *rng.at_step(jnp.int32(0), jnp.int32(0)),
        *rng.at_step(jnp.int32(0), jnp.int32(1)),
    ]
    keys += [k for split in rng.SPLITS for k in rng.of_split(0, split)]
    keys += [*rng.of_loss(rng.at_step(jnp.int32(0), jnp.int32(0)).loss)]
    assert len({tuple(np.asarray(jax.random.key_data(k))) for k in keys}) == len(keys)


def test_no_key_is_used_twice(config):
    p = program(config)
    h = one(p)
    with jax.debug_key_reuse(True):
        state = jax.jit(p.steps.init)(h)
        jax.jit(p.steps.train)(state, h, X, jnp.arange(20))


def test_cosine_is_a_cosine():
    expected = 2.0 * (0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi / 4)))
    found = schedule("cosine")(hypers(), 25)["learning_rate"]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_step_moves_by_the_scheduled_learning_rate(config):
    """Adam's first step has the size of the learning rate in every parameter with a gradient."""
    config.hypers.lr_warmup_epochs, config.hypers.learning_rate, config.hypers.clip_norm = (
        10.0,
        0.1,
        1e9,
    )
    p = program(config)  # a hundred steps of warm-up
    h = one(p)
    state, train = jax.jit(p.steps.init)(h), jax.jit(p.steps.train)
    new, metrics = train(state, h, X, jnp.arange(20))
    moved = max(
        float(jnp.abs(a - b).max())
        for a, b in zip(*map(jax.tree.leaves, (state.params, new.params)), strict=True)
    )
    np.testing.assert_allclose(moved, 0.1 / 100, rtol=1e-3)
    np.testing.assert_allclose(metrics["learning_rate"], 0.1 / 100, rtol=1e-3)
    assert not metrics["clipped"] and metrics["grad_norm"] > 0
    h["lr_warmup_epochs"] = jnp.float32(0.0)  # and half of the horizon of 3 epochs is over
    _, metrics = train(state._replace(step=jnp.int32(15)), h, X, jnp.arange(20))
    np.testing.assert_allclose(metrics["learning_rate"], 0.1 * (0.01 + 0.99 / 2), rtol=1e-5)


def test_clipped_is_logged(config):
    config.hypers.clip_norm = 1e-3
    p = program(config)
    init, train = jax.jit(p.steps.init), jax.jit(p.steps.train)
    assert train(init(one(p)), one(p), X, jnp.arange(20))[1]["clipped"]


def test_the_objective_gets_all_samples_and_a_key_of_its_own(config):
    config.objective.name, config.objective.num_samples = "own", 3
    seen = {}

    def loss(params, draws, x, rng, hypers):
        draw = draws(params)
        seen["shape"] = draw.log_w.shape
        return jnp.mean(draw.distortion), {"noise": jax.random.normal(rng, draw.z.shape[-1:])[0]}

    p = program(config, (of_objective(Objective(lambda rng, hypers: {}, loss)),))
    init, train = jax.jit(p.steps.init), jax.jit(p.steps.train)
    state, metrics = train(init(one(p)), one(p), X, jnp.arange(20))
    assert seen["shape"] == (20, 3)
    assert np.isfinite(metrics["noise"]) and state.step == 1


def test_evaluation_noise_belongs_to_the_eval_seed_and_the_split(config):
    p = program(config)
    params = jax.jit(p.steps.init)(one(p)).params

    def bounds(seed, eval_seed, split):
        config.eval.seed = eval_seed
        p = program(config)
        h = one(p) | {"seed": jnp.int32(seed)}
        evaluate = jax.jit(p.steps.evaluate, static_argnums=(5, 6))
        index = rng.SPLITS.index(split)
        return np.asarray(evaluate(params, h, X, jnp.arange(50), index, 4, 2).log_p)

    first = bounds(0, 0, "test")
    np.testing.assert_array_equal(
        first, bounds(1, 0, "test")
    )  # members are compared on the same noise
    assert (first != bounds(0, 1, "test")).any() and (first != bounds(0, 0, "valid")).any()


def test_evaluation_binarizes_with_another_key_than_it_draws_with():
    keys = rng.of_split(0, "test")
    assert (jax.random.key_data(keys.binarize) != jax.random.key_data(keys.epsilon)).any()
