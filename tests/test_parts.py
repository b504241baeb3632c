"""The contract of every kind of part, over the dicts: a new part is tested the day it is added."""

import functools
import json
import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import vae_jax
from vae_jax import data
from vae_jax.config import CHOSEN_BY, check, flatten, single
from vae_jax.errors import UserError
from vae_jax.estimators.estimator import CAPABILITIES
from vae_jax.models.draws import draw_batch, total
from vae_jax.networks.layers import per_latent_unit
from vae_jax.optim import optimizers, schedules
from vae_jax.parallel import population
from vae_jax.parts import PARTS, catalogue
from vae_jax.training.program import Facts, make_program
from vae_jax.types import Architecture, Network, Part


def make_affine(_section, input_shape, _example_shape, width, _dtype=None) -> Architecture:
    """A matrix each way: compiled in no time, for the tests of what is not a network."""

    def init_encoder(rng, latent_dim):
        return {"kernel": per_latent_unit(0, latent_dim)(rng, (width, math.prod(input_shape)))}

    def encode(params, x):
        mean = params["kernel"] @ x.ravel()
        return mean, -jnp.abs(mean)

    def decoder(start):
        def init(rng, latent_dim):
            kernel = per_latent_unit(1, latent_dim)(rng, (start.size, width))
            return {"kernel": kernel, "bias": start.ravel()}

        def decode(params, z):
            return (params["kernel"] @ z + params["bias"]).reshape(start.shape)

        return Network(init, decode)

    return Architecture(Network(init_encoder, encode), decoder)


AFFINE = Part("network", "affine", make_affine, "a matrix each way")
KNOWN = catalogue((AFFINE,))
NAMED = [(kind, name) for kind, parts in PARTS.items() for name in parts]
# Whatever a part needs beside it.
BESIDE = {
    ("network", "conv"): {"network.channels": (4,)},
    ("beta_schedule", "cyclic"): {"hypers.beta_warmup_epochs": 1.0},
    ("likelihood", "discretized_logistic_mixture"): {"likelihood.mixtures": 3},
    ("model", "hierarchical"): {"model.widths": (4,), "model.hidden": (3,)},
    ("model", "ladder"): {"model.widths": (4,), "model.hidden": (3,), "model.features": 3},
    ("objective", "iwae"): {"objective.num_samples": 3, "objective.gradient": "dreg"},
    ("objective", "ciwae"): {"objective.num_samples": 3, "objective.gradient": "stl"},
    ("objective", "multi_iwae"): {"objective.num_samples": 4, "objective.num_blocks": 2},
    ("objective", "piwae"): {"objective.num_samples": 4, "objective.num_blocks": 2},
    ("objective", "jvi"): {"objective.num_samples": 3, "objective.gradient": "score_function"},
}


def configured(kind, name, **changes):
    """A small configuration that chooses one part, and what is quick to compile beside it."""
    config = vae_jax.default((AFFINE,))
    if (kind, name) != ("network", "mlp"):  # this one has all the defaults
        config.network.name, config.optimizer.name = "affine", "sgd"
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


def of_a_step(*kinds):
    return [(kind, name) for kind, name in NAMED if kind in kinds]


IN_A_STEP = of_a_step("network", "likelihood", "prior", "model", "objective")
# Two members, of which the first is narrower than the arrays.
MEMBERS = [{"hypers.latent_dim": 2, "hypers.seed": 1}, {"hypers.latent_dim": 3}]


@functools.cache  # the same for all that choose the same parts
def compiled(steps, lift=None):
    """Compiled (hypers, store) -> (state before, state after, metrics), `lift` of one step."""
    lift = lift or (lambda step, _axes: step)

    def train(state, hypers, store):
        return steps.train(state, hypers, store, jnp.arange(10))

    init, train = jax.jit(lift(steps.init, 0)), jax.jit(lift(train, (0, 0, None)))

    def first_step(hypers, store):
        before = init(hypers)
        return before, *train(before, hypers, store)

    return first_step


def in_population_and_alone(kind, name):
    """The programs of MEMBERS and of the first of them alone, and what both are trained on."""
    program = program_of(configured(kind, name), MEMBERS)
    alone = program_of(single(program.config, KNOWN, MEMBERS[0]))
    return program, alone, alone.facts.example()._replace(x=batch(10))


def first_as_narrow(wide, narrow):
    """The first member of a population's tree, without the units that it does not have."""
    return population.narrow(population.member(wide, 0), narrow)


def assert_near(found, expected, rtol=1e-4, atol=1e-5):
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=rtol, atol=atol), found, expected
    )


@pytest.mark.parametrize(("kind", "name"), IN_A_STEP)
def test_one_training_step_is_finite(kind, name):
    _, program, store = in_population_and_alone(kind, name)
    hypers = population.member(program.hypers, 0)
    before, after, metrics = compiled(program.steps)(hypers, store)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((after.params, metrics)))
    assert int(after.diverged_at) == -1 and int(after.step) == 1
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before.params, after.params)
    assert any(jax.tree.leaves(moved["encoder"])) and any(jax.tree.leaves(moved["decoder"]))


@pytest.mark.parametrize(
    ("kind", "name"), [("network", "mlp"), *(part for part in IN_A_STEP if part[0] != "network")]
)
def test_one_training_step_is_the_same_compiled_or_not(kind, name):
    _, program, store = in_population_and_alone(kind, name)
    hypers = population.member(program.hypers, 0)
    before, _, metrics = compiled(program.steps)(hypers, store)
    with jax.disable_jit():
        _, eager_metrics = program.steps.train(before, hypers, store, jnp.arange(10))
    assert_near(eager_metrics, metrics, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", PARTS["network"])
def test_a_network_is_the_same_compiled_or_not(name):
    config = check(configured("network", name), KNOWN)
    shape, start = (6, 5, 1), jnp.linspace(-1, 1, 60).reshape(30, 2)
    made = KNOWN.chosen("network", flatten(config)).make(config.network, shape, shape, 3)
    x, z = batch(1).reshape(shape), jnp.array([0.3, -1.2, 0.8])
    for network, given in ((made.encoder, x), (made.decoder(start), z)):
        params = jax.jit(network.init)(jax.random.key(0), 2)

        def total(params, network=network, given=given):
            out = network.apply(params, given)
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(out)), out

        value_and_grad = jax.value_and_grad(total, has_aux=True)
        with jax.disable_jit():
            eager = value_and_grad(params)
        assert_near(eager, jax.jit(value_and_grad)(params))


@pytest.mark.parametrize(("kind", "name"), IN_A_STEP)
def test_a_member_of_a_population_equals_its_single_run(kind, name):
    program, alone, store = in_population_and_alone(kind, name)
    own = population.member(alone.hypers, 0)
    wide, wide_after, wide_metrics = compiled(program.steps, jax.vmap)(program.hypers, store)
    narrow, narrow_after, metrics = compiled(alone.steps)(own, store)
    first = first_as_narrow(wide.params, narrow.params)
    jax.tree.map(np.testing.assert_array_equal, first, narrow.params)
    assert_near(first_as_narrow(wide_after.params, narrow_after.params), narrow_after.params)
    np.testing.assert_allclose(wide_metrics["loss"][0], metrics["loss"], rtol=1e-5)


def gradients_of_steps(num, latent_dim, width):
    """Gradients [num, ...] of `latent_dim` active units in arrays that are `width` wide."""
    rng = np.random.default_rng(0)
    active = 10 * rng.normal(size=(num, 2, latent_dim, 4)).astype(np.float32)  # they are clipped
    wide = jnp.pad(active, ((0, 0), (0, 0), (0, width - latent_dim), (0, 0)))
    of_statistics = jnp.asarray(rng.normal(size=(num, 3)), jnp.float32)
    return {"encoder": wide[:, 0], "decoder": wide[:, 1], "statistics": of_statistics}


@pytest.mark.parametrize("name", PARTS["optimizer"])
def test_the_steps_of_an_optimizer_are_the_same_compiled_or_not_and_in_a_population(name):
    config = check(configured("optimizer", name), KNOWN)
    part = KNOWN.chosen("optimizer", flatten(config))
    objective = PARTS["objective"]["elbo"].make(config.objective, None)
    tx = optimizers.make_tx(functools.partial(part.make, config.optimizer), objective)

    def moved(hypers, grads):
        """Parameters after every one of the steps, from ones."""

        def step(carried, grad):
            params, state = carried
            updates, state = tx(hypers).update(grad, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape[1:]), grads)
        return jax.lax.scan(step, (params, tx(hypers).init(params)), grads)[1]

    own = {"hypers.learning_rate": 0.1, "hypers.weight_decay": 0.3, "hypers.clip_norm": 10.0}
    hypers = population.grid(config, [own, {}])
    own, narrow = population.member(hypers, 0), gradients_of_steps(4, 2, 2)
    alone = jax.jit(moved)(own, narrow)
    for leaf in jax.tree.leaves(alone):
        assert np.isfinite(leaf).all() and np.diff(leaf, axis=0).reshape(3, -1).any(1).all()
    with jax.disable_jit():
        assert_near(moved(own, narrow), alone)
    wide = jax.jit(jax.vmap(moved, (0, None)))(hypers, gradients_of_steps(4, 2, 3))
    assert_near(first_as_narrow(wide, alone), alone)


@pytest.mark.parametrize(("kind", "name"), of_a_step("learning_rate_schedule", "beta_schedule"))
def test_a_schedule_is_the_same_compiled_or_not_and_in_a_population(kind, name):
    config = check(configured(kind, name), KNOWN)
    decay, position = (
        KNOWN.chosen(chosen, flatten(config)).make(config.schedule)
        for chosen in ("learning_rate_schedule", "beta_schedule")
    )
    objective = PARTS["objective"]["elbo"].make(config.objective, None)
    at = schedules.make_schedule(decay, position, objective, 20.0, steps_per_epoch=5.0)
    own = {"hypers.learning_rate": 0.1, "hypers.beta": 2.0}
    hypers = population.grid(config, [own, {}])
    alone = population.member(hypers, 0)
    steps = jnp.arange(24)  # also beyond the horizon

    def rates(hypers, step):
        now = at(hypers, step)
        return now["learning_rate"], now["beta"]

    values = jax.jit(jax.vmap(rates, (None, 0)))(alone, steps)
    assert np.isfinite(values).all() and np.min(values) >= 0
    with jax.disable_jit():
        eager = np.transpose([rates(alone, step) for step in steps])
    np.testing.assert_allclose(values, eager, rtol=1e-5, atol=1e-7)
    of_both = jax.jit(jax.vmap(jax.vmap(rates, (None, 0)), (0, None)))(hypers, steps)
    np.testing.assert_allclose([rate[0] for rate in of_both], values, rtol=1e-6)


@pytest.mark.parametrize("name", PARTS["prior"])
def test_a_prior_in_wide_arrays_is_the_narrow_prior(name):
    """Values and gradients: latent_dim 3 in width 8 against width 3."""

    def made(width):
        section = check(configured("prior", name), KNOWN).prior
        return PARTS["prior"][name].make(section, width, None, np.zeros(4))

    z, key, wide = jnp.array([0.3, -1.2, 0.8]), jax.random.key(1), made(8)

    def values(width):
        """(log_prob of z, its gradient, a sample), of arrays of a width."""
        prior = made(width)
        own, at = {"prior": prior.init(key, 3)}, jnp.pad(z, (0, width - 3))
        density = jax.value_and_grad(prior.log_prob, argnums=1)
        return *density(own, at, 3), prior.sample(own, key, 3)

    log_p, gradient, sample = jax.jit(values, static_argnums=0)(8)
    own_log_p, own_gradient, _ = jax.jit(values, static_argnums=0)(3)
    np.testing.assert_allclose(log_p, own_log_p, rtol=1e-6)
    np.testing.assert_allclose(gradient[:3], own_gradient, rtol=1e-6)
    assert not gradient[3:].any() and not sample[3:].any()
    if wide.kl is None:
        return

    @jax.jit
    def rates():
        """(the KL per unit, log q - log p of draws from q)."""
        params, active = {"prior": wide.init(key, 3)}, jnp.arange(8) < 3
        q = vae_jax.distributions.Gaussian(jnp.pad(z, (0, 5)), jnp.pad(-z, (0, 5)))
        draws = jax.random.normal(key, (20_000, 8)) * jnp.exp(0.5 * q.logvar) + q.mean
        log_q = vae_jax.distributions.log_prob(q, draws)[:, :3].sum(1)
        log_p = jax.vmap(wide.log_prob, (None, 0, None))(params, draws * active, 3)
        return wide.kl(params, q, 3), log_q - log_p

    rate, ratio = map(np.asarray, rates())
    assert rate.shape == (8,) and (rate[:3] >= 0).all() and not rate[3:].any()
    assert abs(ratio.mean() - rate.sum()) < 4 * ratio.std() / np.sqrt(len(ratio))


@pytest.mark.parametrize("name", PARTS["likelihood"])
def test_a_likelihood_ignores_what_is_not_observed(name):
    program = program_of(configured("likelihood", name))
    hypers = {k: v[0] for k, v in program.hypers.items()}
    observed = jax.random.bernoulli(jax.random.key(3), 0.6, (4, 30))
    shown = jnp.where(observed, batch(), 0.0)
    other = jnp.where(observed, batch(), 1.0)

    @jax.jit
    def distortion(x):
        params = program.model.init(jax.random.key(0), hypers)
        example = vae_jax.types.Example(x, None, observed)
        positions, samples = jnp.arange(4), jnp.arange(2)
        draw = draw_batch(
            program.model, params, example, jax.random.key(1), positions, samples, hypers
        )
        return draw.distortion

    np.testing.assert_array_equal(distortion(shown), distortion(other))


@pytest.mark.parametrize("name", PARTS["model"])
def test_a_model_has_what_its_draws_say(name):
    program = program_of(configured("model", name))
    hypers = {k: v[0] for k, v in program.hypers.items()}
    model, x = program.model, batch()

    @jax.jit
    def drawn():
        """(params, draws [4, 3], log_w of the first of each by the densities, decoded)."""
        params, key, log_w = model.init(jax.random.key(0), hypers), jax.random.key(1), None
        draw = draw_batch(model, params, x, key, jnp.arange(4), jnp.arange(3), hypers)
        if draw.log_w is not None:
            first = jax.tree.map(lambda leaf: leaf[:, 0], draw.z)
            args = (None, 0, 0, None)
            log_w = jax.vmap(model.log_joint, args)(params, x, first, hypers)
            log_w -= jax.vmap(model.log_q, args)(params, x, first, hypers)
        z = jax.tree.map(lambda leaf: leaf[0, 0], draw.z)
        decoded = model.decode(params, z), model.decode(params, z, None, jax.random.key(0))
        return params, draw, log_w, decoded

    params, draw, log_w, decoded = drawn()
    assert {"encoder", "decoder", "prior", "statistics"} == set(params)
    assert draw.distortion.shape == (4, 3)
    provides = PARTS["model"][name].provides
    assert ("a rate" in provides) == (draw.rate is not None)
    if draw.rate is not None:
        assert total(draw.rate, batch_axes=2).shape == (4, 3)
    if draw.log_w is not None:
        np.testing.assert_allclose(log_w, draw.log_w[:, 0], rtol=1e-5, atol=1e-4)
    assert [image.shape for image in decoded] == [(6, 5, 1), (6, 5, 1)]


@pytest.mark.parametrize("name", PARTS["objective"])
def test_an_objective_resumes_to_the_bit(name, tmp_path, undrawn):
    x = np.random.default_rng(0).integers(0, 256, (80, 6, 5, 1), np.uint8)
    dataset = data.from_arrays("x", x, num_valid=10, num_test=10)

    def trained(folder):
        rows = []
        config = configured("objective", name, **{"optimizer.name": "adam"})
        args = (config, tmp_path / folder, (AFFINE,), dataset)
        return vae_jax.train(*args, on_row=rows.append).params, rows

    straight, rows = trained("a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    shutil.rmtree(tmp_path / "b" / "checkpoints" / "12")  # killed in the second of two epochs
    (tmp_path / "b" / "results.json").unlink()
    resumed, again = trained("b")
    jax.tree.map(np.testing.assert_array_equal, straight, resumed)
    assert again == [row for row in rows if row["step"] > 6] and rows[0]["loss"] > 0
    written = [(tmp_path / run / "metrics.jsonl").read_text() for run in "ab"]
    assert written[0] == written[1] == "".join(json.dumps(row) + "\n" for row in rows)


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


@pytest.mark.quick
def test_every_number_has_a_largest_value():
    known = catalogue()
    start = flatten(known.default())
    for name, field in known.fields.items():
        like = field.default
        if field.choices or field.of_names or isinstance(like, str | bool):
            continue
        huge = 1e300 if isinstance(like, float) else 10**20
        config = known.default()
        section, last = name.split(".")
        config[section][last] = (huge,) if isinstance(like, tuple) else huge
        with pytest.raises(UserError, match=rf"{name} is .*, expected (at most|less than) "):
            check(config, known)
        assert start[name] == like
