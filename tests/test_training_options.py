"""What training can do besides Adam on the ELBO: schedules, capacity, free bits, averages, early
stopping, bfloat16."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from making import check, make_program, make_programs

import vae_jax
from vae_jax import config as settings
from vae_jax import default
from vae_jax.data import scan
from vae_jax.errors import UserError
from vae_jax.objectives import OBJECTIVES
from vae_jax.optim import optimizers, schedules
from vae_jax.parallel import devices, population
from vae_jax.training.loop import fit, initial_state, make_train_chunk
from vae_jax.training.signals import catch_signals
from vae_jax.types import Draw, Example
from vae_jax.workdir.files import read_json
from vae_jax.workdir.rows import read_rows

STORE = Example(jnp.asarray(np.random.default_rng(0).integers(0, 256, (64, 16), np.uint8)))
ELBO = OBJECTIVES["elbo"].make(default().objective, None)


def hypers_of(**changes):
    return {
        name: jnp.float32(value) for name, value in (default().hypers.to_dict() | changes).items()
    }


def one_step(program, state, t=0):
    """(state after a step of the program's one member, metrics)."""
    chunk = make_train_chunk(program, devices.make_mesh(1, 16))
    index = jnp.arange(16 * t, 16 * (t + 1))[None] % 64
    state, metrics, _ = chunk(jax.tree.map(jnp.array, state), program.hypers, STORE, index)
    return jax.tree.map(np.array, state), metrics


def trained(config, steps=3):
    """(program, states after 0, 1, ... steps) of a tiny model, one step per call."""
    config.network.hidden, config.hypers.latent_dim, config.train.batch_size = (8,), 2, 16
    program = make_program(check(config), np.full((4, 4, 1), 0.4, np.float32), 64)
    start = initial_state(program, devices.make_mesh(1, 16))
    states, metrics = [jax.tree.map(np.array, start)], None
    for t in range(steps):
        state, metrics = one_step(program, states[-1], t)
        states.append(state)
    return program, states, metrics


def schedule(objective, position):
    """Of a horizon of 20 epochs, 10 steps each."""
    decay = schedules.LEARNING_RATE_SCHEDULES["cosine"].make(default().schedule)
    return schedules.make_schedule(decay, position, objective, 200.0, 10.0)


def test_beta_rises_once_or_in_every_cycle():
    hypers = hypers_of(beta=2.0, beta_warmup_epochs=2.0, beta_cycle_epochs=5.0)
    once, in_cycle = (
        schedules.BETA_SCHEDULES[name].make(default().schedule) for name in ("linear", "cyclic")
    )
    linear = schedule(ELBO, once)
    values = [float(linear(hypers, t)["beta"]) for t in (0, 9, 19, 55)]
    assert values == pytest.approx([0.1, 1.0, 2.0, 2.0])
    cyclic = schedule(ELBO, in_cycle)
    values = [float(cyclic(hypers, t)["beta"]) for t in (0, 9, 19, 49, 50, 59, 69, 99)]
    assert values == pytest.approx([0.1, 1.0, 2.0, 2.0, 0.1, 1.0, 2.0, 2.0])

    def reached(t):
        return bool(schedules.beta_is_reached(in_cycle, hypers, t, 10.0))

    found = [reached(t) for t in (19, 20, 49, 50, 69, 70)]
    assert found == [False, True, True, False, False, True]


def test_capacity_rises_and_the_rate_is_drawn_to_it_from_both_sides():
    config, hypers = default(), hypers_of(capacity=8.0, capacity_warmup_epochs=4.0)
    objective = OBJECTIVES["capacity"].make(config.objective, None)
    at = schedule(objective, schedules.BETA_SCHEDULES["linear"].make(config.schedule))
    values = [float(at(hypers, t)["capacity"]) for t in (0, 19, 39, 99)]
    assert values == pytest.approx([0.2, 4.0, 8.0, 8.0])
    for rates, expected in (((3.0, 4.0), 10 + 7 * 3.0), ((9.0, 6.0), 10 + 7 * 5.0)):
        draw = Draw(
            jnp.full((2, 1), 10.0),
            jnp.tile(jnp.array(rates), (2, 1, 1)),
            jnp.zeros((2, 1)),
            None,
            None,
        )
        hypers = {"gamma": 7.0, "capacity": jnp.float32(10.0)}
        value, metrics = objective.loss({}, lambda _params, draw=draw: draw, None, None, hypers)
        assert float(value) == pytest.approx(expected)
        assert float(metrics["elbo"]) == pytest.approx(-10 - sum(rates))


def test_free_bits_are_per_unit_of_the_batch_mean():
    loss = OBJECTIVES["free_bits"].make(default().objective, None).loss
    rates = jnp.array(
        [[[0.1, 3.0, 0.0]], [[0.3, 1.0, 0.0]]]
    )  # [B, K, Z]: means 0.2, 2.0, and a unit that is not there

    def value(rates, beta=2.0):
        draw = Draw(jnp.full((2, 1), 5.0), rates, jnp.zeros((2, 1)), None, None)
        hypers = {"beta": beta, "free_bits_unit_batch_mean": jnp.float32(0.5)}
        return loss({}, lambda _params: draw, None, None, hypers)[0]

    assert float(value(rates)) == pytest.approx(5 + 2 * 1.5)
    gradient = jax.grad(value)(rates)
    # The first unit is free as a whole, the second is charged for every example, also one below 0.5
    # would be.
    np.testing.assert_allclose(gradient, np.broadcast_to([0.0, 1.0, 0.0], rates.shape))


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_every_optimizer_is_the_one_of_its_name(name):
    hypers = hypers_of(learning_rate=0.1, weight_decay=0.3, clip_norm=1e6)
    own = partial(optimizers.OPTIMIZERS[name].make, default().optimizer)
    extra = {
        "adamw": {"weight_decay": 0.3},
        "lion": {"weight_decay": 0.3},
        "sgd": {"momentum": 0.9},
    }.get(name, {})
    params, grads = {"w": jnp.array([1.0, -2.0])}, {"w": jnp.array([0.3, 5.0])}
    found = []
    for tx in (optimizers.make_tx(own, ELBO)(hypers), getattr(optax, name)(0.1, **extra)):
        moved, state = params, tx.init(params)
        for _ in range(3):
            updates, state = tx.update(grads, state, moved)
            moved = optax.apply_updates(moved, updates)
        found.append(moved["w"])
    np.testing.assert_allclose(*found, rtol=1e-6)


def test_adam_has_its_own_numbers_and_second_moments_that_may_start_at_one():
    section = default().optimizer
    section.adam_b1, section.adam_b2, section.adam_epsilon = 0.8, 0.9, 1e-2
    hypers = hypers_of(learning_rate=0.5, clip_norm=1e6)
    params, gradient = {"w": jnp.array([1.0, -2.0])}, np.array([0.3, -5.0])

    def first_update():
        tx = optimizers.make_tx(partial(optimizers.OPTIMIZERS["adam"].make, section), ELBO)(hypers)
        return tx.update({"w": jnp.asarray(gradient)}, tx.init(params), params)[0]["w"]

    # Kingma & Ba 2015, algorithm 1, at t = 1: both moments are divided by 1 - beta.
    expected = -0.5 * gradient / (np.abs(gradient) + 1e-2)
    np.testing.assert_allclose(first_update(), expected, rtol=1e-5)
    section.second_moments = "ones"
    second = (0.9 + 0.1 * gradient**2) / 0.1
    expected = -0.5 * gradient / (np.sqrt(second) + 1e-2)
    np.testing.assert_allclose(first_update(), expected, rtol=1e-5)


def test_a_running_statistic_moves_by_itself_and_unclipped():
    hypers = hypers_of(learning_rate=0.5, clip_norm=1e-3)
    sgd = partial(optimizers.OPTIMIZERS["sgd"].make, default().optimizer)
    params = {"w": jnp.array([2.0]), "statistics": {"variance": jnp.array([4.0])}}
    grads = {"w": jnp.array([30.0]), "statistics": {"variance": jnp.array([4.0 - 10.0])}}
    tx = optimizers.make_tx(sgd, ELBO)(hypers)
    updates, _ = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(updates["w"], [-0.5 * 1e-3], rtol=1e-5)
    np.testing.assert_allclose(updates["statistics"]["variance"], [0.01 * 6.0], rtol=1e-5)


def test_the_average_is_the_recursion_and_is_what_is_evaluated():
    config = default()
    config.train.ema_decay, config.hypers.lr_warmup_epochs = 0.15, 0.0
    program, states, _ = trained(config)

    def kernel(tree):
        return tree["encoder"]["mean"]["kernel"][0]

    expected = kernel(states[0].params)
    for t, state in enumerate(states[1:]):
        decay = min(0.15, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * kernel(state.params)
        np.testing.assert_allclose(kernel(state.average), expected, rtol=1e-5)
    assert np.abs(kernel(states[-1].average) - kernel(states[-1].params)).max() > 1e-4
    late = states[-1]._replace(step=np.array([10_000], np.int32))
    judge = jax.jit(jax.vmap(program.steps.after_validation))
    judged = judge(late, program.hypers, jnp.array([-1.0]))
    np.testing.assert_array_equal(kernel(judged.best.params), kernel(states[-1].average))


def test_a_diverged_member_keeps_its_average():
    config = default()
    config.train.ema_decay = 0.15
    program, states, _ = trained(config)
    state = states[-1]._replace(diverged_at=np.array([1], np.int32))
    after, _ = one_step(program, state)
    for a, b in zip(jax.tree.leaves(after.average), jax.tree.leaves(state.average), strict=True):
        np.testing.assert_array_equal(a, b)


def test_early_stopping_waits_for_so_many_epochs_without_improvement():
    config = default()
    config.train.early_stop_epochs, config.hypers.beta_warmup_epochs = 2.0, 1.0
    # 4 steps an epoch: patience is 8 steps, validations count from step 4.
    program, (state,), _ = trained(config, steps=0)
    judge, stopped = jax.jit(jax.vmap(program.steps.after_validation)), []
    for step, elbo in [
        (2, -1.0),
        (4, -9.0),
        (8, -5.0),
        (12, -6.0),
        (15, -5.0),
        (16, -7.0),
        (20, -1.0),
    ]:
        state = state._replace(step=np.array([step], np.int32))
        state = judge(state, program.hypers, jnp.array([elbo]))
        stopped.append(int(state.stopped_at[0]))
    assert stopped == [-1, -1, -1, -1, -1, 16, 16]  # 8 steps after the best, at step 8
    best = int(state.best.step[0]), float(state.best.valid_elbo[0])
    assert best == (8, -5.0)  # what comes later does not count
    after, _ = one_step(program, state)
    for a, b in zip(jax.tree.leaves(after.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_stops_early_is_complete_and_is_evaluated_at_its_best(
    images, config, tmp_path, undrawn, caplog
):
    config.train.num_epochs, config.train.early_stop_epochs, config.eval.every_epochs = (
        40.0,
        1.0,
        0.5,
    )
    config.checkpoint.every_epochs = 40.0
    config.schedule.learning_rate = "constant"  # so that it soon gets no better
    run = vae_jax.train(config, tmp_path / "one", dataset=images)
    results = read_json(tmp_path / "one" / "results.json")
    (member,) = results["members"]
    assert results["complete"] and member["stopped_at"] == member["step"] < 400
    assert member["params"] == "best" and member["stopped_at"] - member["best_step"] >= 10
    valid = {
        r["step"]: r["elbo"]
        for r in read_rows(tmp_path / "one" / "metrics.jsonl")
        if r["split"] == "valid"
    }
    counted = {step: elbo for step, elbo in valid.items() if step >= 5}
    assert (
        max(counted, key=counted.get) == member["best_step"] and max(valid) == member["stopped_at"]
    )
    vae_jax.train(config, tmp_path / "one", dataset=images)
    assert "is complete" in caplog.text

    config.sweep.seed = (0, 1)
    (many,) = make_programs(check(config), scan.mean(images.train), 200)
    (tmp_path / "two").mkdir()
    with catch_signals() as stop:
        first = population.member(fit(many, images, tmp_path / "two", stop), 0)
    assert (first.stopped_at, first.best.step) == (member["stopped_at"], member["best_step"])
    again = first.best.params
    for a, b in zip(jax.tree.leaves(run.params), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    steps = [r["step"] for r in read_rows(tmp_path / "two" / "metrics.jsonl") if r["member"] == 0]
    assert max(steps) == member["stopped_at"]  # nothing is logged of who no longer learns


def test_bfloat16_computes_networks_alone():
    config = default()
    config.train.dtype = "bfloat16"
    program, states, metrics = trained(config)
    assert {leaf.dtype for leaf in jax.tree.leaves(states[-1].params)} == {np.dtype(np.float32)}
    assert metrics["loss"].dtype == np.float32
    hypers, params = population.member(program.hypers, 0), population.member(states[-1].params, 0)
    text = str(
        jax.make_jaxpr(program.steps.train)(
            population.member(states[-1], 0), hypers, STORE, jnp.arange(16)
        )
    )
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert products and all("bf16" in line for line in products)
    evaluated = jax.make_jaxpr(
        lambda p: program.steps.evaluate(p, hypers, STORE, jnp.arange(64), 2, 1, 1)
    )(params)
    assert "bf16" not in str(evaluated)
    _, _, metrics32 = trained(default())
    np.testing.assert_allclose(metrics["loss"], metrics32["loss"], rtol=2e-2)
    assert np.abs(metrics["loss"] - metrics32["loss"]).max() > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.ema_decay": 1.0}, "expected less than 1"),
        ({"eval.params": "ema"}, "set train.ema_decay"),
        ({"train.early_stop_epochs": 0.5}, "at least as patient"),
        (
            {"schedule.beta": "cyclic", "hypers.beta_cycle_epochs": 5.0},
            "beta would never reach its value",
        ),
        ({"optimizer.name": "adamm"}, "did you mean adam"),
        ({"train.dtype": "float16"}, "bfloat16"),
    ],
)
def test_impossible_choices_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        check(settings.unflatten(settings.flatten(default()) | changes))
