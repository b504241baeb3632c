"""The contract of every kind of part, over the dicts: a new part is tested the day it is added."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vae_jax
from vae_jax import data
from vae_jax.config import CHOSEN_BY, check, flatten, single
from vae_jax.errors import UserError
from vae_jax.estimators.estimator import CAPABILITIES
from vae_jax.models.draws import draw_batch, total
from vae_jax.parts import PARTS, catalogue
from vae_jax.training.program import Facts, make_program

KNOWN = catalogue()
NAMED = [(kind, name) for kind, parts in PARTS.items() for name in parts]
# Whatever a part needs beside it.
BESIDE = {
    ("network", "conv"): {"network.channels": (4,)},
    ("beta_schedule", "cyclic"): {"hypers.beta_warmup_epochs": 1.0},
    ("likelihood", "discretized_logistic_mixture"): {"likelihood.mixtures": 3},
}


def configured(kind, name, **changes):
    """A small configuration that chooses one part."""
    config = vae_jax.default()
    config.network.hidden, config.hypers.latent_dim = (6,), 3
    config.train.batch_size = 10
    config.train.num_epochs = config.train.schedule_epochs = 2.0
    config.train.steps_per_call = 2
    config.eval.nll_samples = 2
    config.checkpoint.every_epochs = 1.0
    config.data.binarize = "none" if kind == "likelihood" and name != "bernoulli" else "dynamic"
    fields = {} if kind == "estimator" else {CHOSEN_BY[kind]: name}
    for field, value in (fields | BESIDE.get((kind, name), {}) | changes).items():
        section, key = field.split(".")
        config[section][key] = value
    return config


def program_of(config, changes=None):
    facts = Facts(np.full((6, 5, 1), 0.4, np.float32), 60)
    return make_program(check(config, KNOWN), facts, KNOWN, changes)


def batch(num=4):
    return jnp.round(255 * jax.random.uniform(jax.random.key(5), (num, 30))) / 255


@pytest.mark.parametrize(("kind", "name"), NAMED)
def test_a_part_says_what_it_is(kind, name):
    part = PARTS[kind][name]
    assert (part.kind, part.name) == (kind, name)
    assert part.meaning if kind == "estimator" else part.words
    for field in [*part.fields.values(), *part.hypers.values()]:
        assert field.help and field.default is not None


def trained_kinds():
    return [(kind, name) for kind, name in NAMED if kind != "estimator"]


@pytest.mark.parametrize(("kind", "name"), trained_kinds())
def test_one_training_step_is_finite_and_the_same_compiled_or_not(kind, name):
    program = program_of(configured(kind, name))
    hypers = {k: v[0] for k, v in program.hypers.items()}
    state = jax.jit(program.steps.init)(hypers)
    store = program.example._replace(x=batch(10))
    train = jax.jit(program.steps.train)
    after, metrics = train(state, hypers, store, jnp.arange(10))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((after.params, metrics)))
    assert int(after.diverged_at) == -1 and int(after.step) == 1
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), state.params, after.params)
    assert any(jax.tree.leaves(moved["encoder"])) and any(jax.tree.leaves(moved["decoder"]))
    with jax.disable_jit():
        _, eager_metrics = program.steps.train(state, hypers, store, jnp.arange(10))

    def close(a, b):
        return np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)

    jax.tree.map(close, metrics, eager_metrics)


@pytest.mark.parametrize(("kind", "name"), trained_kinds())
def test_a_member_of_a_population_equals_its_single_run(kind, name):
    config = configured(kind, name)
    changes = [{"hypers.latent_dim": 2, "hypers.seed": 1}, {"hypers.latent_dim": 3}]
    program = program_of(config, changes)
    alone = program_of(single(program.config, KNOWN, changes[0]))
    wide = jax.jit(jax.vmap(program.steps.init))(program.hypers)
    narrow = jax.jit(alone.steps.init)({k: v[0] for k, v in alone.hypers.items()})
    store = program.example._replace(x=batch(10))
    step = jax.jit(jax.vmap(program.steps.train, (0, 0, None, None)))
    wide_after, wide_metrics = step(wide, program.hypers, store, jnp.arange(10))
    step_alone = jax.jit(alone.steps.train)
    own = {k: v[0] for k, v in alone.hypers.items()}
    narrow_after, metrics = step_alone(narrow, own, store, jnp.arange(10))

    def cut(wide_leaf, leaf):
        np.testing.assert_array_equal(wide_leaf[0][tuple(map(slice, leaf.shape))], leaf)

    def near(wide_leaf, leaf):
        part = wide_leaf[0][tuple(map(slice, leaf.shape))]
        np.testing.assert_allclose(part, leaf, rtol=1e-4, atol=1e-5)

    jax.tree.map(cut, wide.params, narrow.params)
    jax.tree.map(near, wide_after.params, narrow_after.params)
    np.testing.assert_allclose(wide_metrics["loss"][0], metrics["loss"], rtol=1e-5)


@pytest.mark.parametrize("name", PARTS["prior"])
def test_a_prior_in_wide_arrays_is_the_narrow_prior(name):
    """Values and gradients: latent_dim 3 in width 8 against width 3."""

    def made(width):
        section = check(configured("prior", name), KNOWN).prior
        return PARTS["prior"][name].make(section, width, None, np.zeros(4))

    wide, narrow, key = made(8), made(3), jax.random.key(1)
    z = jnp.array([0.3, -1.2, 0.8])
    padded = jnp.pad(z, (0, 5))
    own = {"prior": narrow.init(key, 3)}
    params = {"prior": wide.init(key, 3)}
    values = [wide.log_prob(params, padded, 3), narrow.log_prob(own, z, 3)]
    np.testing.assert_allclose(*values, rtol=1e-6)
    wide_grad = jax.grad(lambda z: wide.log_prob(params, z, 3))(padded)
    narrow_grad = jax.grad(lambda z: narrow.log_prob(own, z, 3))(z)
    np.testing.assert_allclose(wide_grad[:3], narrow_grad, rtol=1e-6)
    assert not wide_grad[3:].any() and not wide.sample(params, key, 3)[3:].any()
    if wide.kl is not None:
        q = vae_jax.distributions.Gaussian(padded, jnp.pad(-z, (0, 5)))
        rate = wide.kl(params, q, 3)
        assert rate.shape == (8,) and (rate[:3] >= 0).all() and not rate[3:].any()
        draws = jax.random.normal(key, (20_000, 8)) * jnp.exp(0.5 * q.logvar) + q.mean
        log_q = vae_jax.distributions.log_prob(q, draws)[:, :3].sum(1)
        log_p = jax.vmap(lambda z: wide.log_prob(params, z * (jnp.arange(8) < 3), 3))(draws)
        ratio = np.asarray(log_q - log_p)
        assert abs(ratio.mean() - rate.sum()) < 4 * ratio.std() / np.sqrt(len(ratio))


@pytest.mark.parametrize("name", PARTS["likelihood"])
def test_a_likelihood_ignores_what_is_not_observed(name):
    program = program_of(configured("likelihood", name))
    hypers = {k: v[0] for k, v in program.hypers.items()}
    params = program.model.init(jax.random.key(0), hypers)
    observed = jax.random.bernoulli(jax.random.key(3), 0.6, (4, 30))
    shown = jnp.where(observed, batch(), 0.0)
    other = jnp.where(observed, batch(), 1.0)

    def loss(x):
        example = vae_jax.types.Example(x, None, observed)
        positions, samples = jnp.arange(4), jnp.arange(2)
        draw = draw_batch(
            program.model, params, example, jax.random.key(1), positions, samples, hypers
        )
        return draw.distortion

    np.testing.assert_array_equal(jax.jit(loss)(shown), jax.jit(loss)(other))


@pytest.mark.parametrize("name", PARTS["model"])
def test_a_model_has_what_its_draws_say(name):
    program = program_of(configured("model", name))
    hypers = {k: v[0] for k, v in program.hypers.items()}
    model, x = program.model, batch()
    params = model.init(jax.random.key(0), hypers)
    assert {"encoder", "decoder", "prior", "statistics"} == set(params)
    draw = draw_batch(model, params, x, jax.random.key(1), jnp.arange(4), jnp.arange(3), hypers)
    assert draw.distortion.shape == (4, 3)
    provides = PARTS["model"][name].provides
    assert ("a rate" in provides) == (draw.rate is not None)
    if draw.rate is not None:
        assert total(draw.rate, batch_axes=2).shape == (4, 3)
    if draw.log_w is not None:
        log_w = jax.vmap(
            lambda x, z: model.log_joint(params, x, z, hypers) - model.log_q(params, x, z, hypers)
        )(x, jax.tree.map(lambda leaf: leaf[:, 0], draw.z))
        np.testing.assert_allclose(log_w, draw.log_w[:, 0], rtol=1e-5, atol=1e-4)
    z = jax.tree.map(lambda leaf: leaf[0, 0], draw.z)
    assert model.decode(params, z).shape == (6, 5, 1)
    assert model.decode(params, z, None, jax.random.key(0)).shape == (6, 5, 1)


@pytest.mark.parametrize("name", PARTS["objective"])
def test_an_objective_resumes_to_the_bit(name, tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (80, 6, 5, 1), np.uint8)
    dataset = data.from_arrays("x", x, num_valid=10, num_test=10)
    straight = vae_jax.train(configured("objective", name), tmp_path / "a", dataset=dataset)
    shorter = configured("objective", name, **{"train.num_epochs": 1.0})
    vae_jax.train(shorter, tmp_path / "b", dataset=dataset)
    resumed = vae_jax.train(configured("objective", name), tmp_path / "b", dataset=dataset)
    jax.tree.map(np.testing.assert_array_equal, straight.params, resumed.params)
    rows = [(tmp_path / run / "metrics.jsonl").read_text() for run in "ab"]
    assert rows[0] == rows[1] and json.loads(rows[0].splitlines()[0])["loss"] > 0


@pytest.mark.parametrize("name", PARTS["estimator"])
def test_an_estimator_needs_what_there_is_and_names_its_pictures(name):
    estimator = PARTS["estimator"][name]
    assert set(estimator.needs(check(vae_jax.default(), KNOWN).eval)) <= set(CAPABILITIES)
    for picture in estimator.pictures:
        assert picture.file.endswith(".png") and picture.caption.count("**") == 2
    assert set(estimator.after) <= set(PARTS["estimator"])


def test_every_field_is_declared_once_and_every_section_is_there():
    fields = flatten(vae_jax.default())
    assert {name for name in fields if not name.startswith("sweep.")} <= set(KNOWN.fields)
    for name, field in KNOWN.fields.items():
        assert fields[name] == field.default, name


def test_parts_that_do_not_fit_are_refused_by_name():
    config = configured("model", "ae", **{"objective.name": "free_bits"})
    told = "objective.name 'free_bits' needs a rate, which model.name 'ae' does not have; what fits"
    with pytest.raises(UserError, match=told):
        check(config, KNOWN)
