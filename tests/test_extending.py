"""What a user adds without editing the package: parts of every kind, by `parts=`, and a dataset.

Only public names are imported. Each part, by itself or beside one of another kind, is trained,
resumed after a stop, swept over two members, evaluated, drawn and reported, and what it brings is
found in results.json and on the page.
"""

import json
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import vae_jax
from vae_jax import data, distributions
from vae_jax.distributions import Gaussian
from vae_jax.errors import UserError
from vae_jax.estimators import Estimator, Picture, Task
from vae_jax.models.draws import draw_batch, keeps_score, scale_gradient, shifted
from vae_jax.models.ingredients import Ingredients, as_example
from vae_jax.networks import mlp
from vae_jax.types import Draw, Field, Likelihood, Model, Objective, Part, Prior

# A prior with parameters: a mixture of Gaussians, whose KL has no closed form.


def make_mixture(section, width, _encode, _x_mean) -> Prior:
    def init(rng, _latent_dim):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(rng, jnp.arange(width))
        draw = jax.vmap(lambda key: jax.random.normal(key, (section.components,)), out_axes=1)
        return {"mean": draw(keys)}

    def log_prob(params, z, latent_dim):
        mean = params["prior"]["mean"]
        log_p = distributions.log_prob(Gaussian(mean, jnp.zeros_like(mean)), z)
        log_p = jnp.where(jnp.arange(width) < latent_dim, log_p, 0.0).sum(1)
        return jax.nn.logsumexp(log_p) - jnp.log(section.components)

    def sample(params, rng, latent_dim):
        choose, draw = jax.random.split(rng)
        mean = params["prior"]["mean"][jax.random.randint(choose, (), 0, section.components)]
        z = mean + jax.random.normal(draw, (width,))
        return jnp.where(jnp.arange(width) < latent_dim, z, 0.0)

    return Prior(init, log_prob, sample)


MIXTURE = Part(
    "prior",
    "mixture",
    make_mixture,
    "a mixture of Gaussians",
    fields={"components": Field(3, "how many", above=0)},
)

# A likelihood with a field of its own: Student's t.


def make_student(section) -> Likelihood:
    dof = section.degrees_of_freedom

    def log_prob(_theta, out, x):
        return jax.scipy.stats.t.logpdf(x, dof, out[:, 0])

    def sample(_theta, rng, out):
        return out[:, 0] + jax.random.t(rng, dof, out.shape[:1])

    return Likelihood(
        "real", dict, lambda mean: mean[:, None], log_prob, lambda _theta, out: out[:, 0], sample
    )


STUDENT = Part(
    "likelihood",
    "student",
    make_student,
    "Student's t",
    fields={"degrees_of_freedom": Field(4.0, "of Student's t", above=0)},
)

# A model with two stochastic layers: x -> z1 -> z2, p(z2) p(z1|z2) p(x|z1).


class Affine:
    """A Gaussian whose mean is affine in the layer above or below."""

    @staticmethod
    def init(rng, inputs, outputs):
        return {"w": 0.1 * jax.random.normal(rng, (outputs, inputs)), "b": jnp.zeros(outputs)}

    @staticmethod
    def apply(params, h):
        return Gaussian(params["w"] @ h + params["b"], jnp.zeros_like(params["b"]))


def make_two_layers(section, parts: Ingredients) -> Model:
    width, top = parts.width, section.top_dim
    encoder, p_x = parts.architecture.encoder, parts.generator()

    def active(hypers):
        return jnp.arange(width) < hypers["latent_dim"]

    def init(rng, hypers):
        keys = jax.random.split(rng, 4)
        return {
            "encoder": {
                "z1": encoder.init(keys[0], hypers["latent_dim"]),
                "z2": Affine.init(keys[1], width, top),
            },
            "decoder": p_x.init(keys[2], hypers["latent_dim"]),
            "prior": Affine.init(keys[3], top, width),
            "statistics": p_x.statistics(),
        }

    def q1(params, x, hypers, offset=None):
        mean, logvar = encoder.apply(params["encoder"]["z1"], parts.to_input(as_example(x)))
        q, mask = shifted(Gaussian(mean, logvar), offset and offset["z1"]), active(hypers)
        return Gaussian(jnp.where(mask, q.mean, 0.0), jnp.where(mask, q.logvar, 0.0))

    def q2(params, z1, offset=None):
        return shifted(Affine.apply(params["encoder"]["z2"], z1), offset and offset["z2"])

    def encode(params, x, hypers, rng=None):
        first = q1(params, x, hypers)
        z1 = first.mean
        if rng is not None:
            z1 = distributions.sample(first, jax.random.normal(rng, (width,)))
        return {"z1": first, "z2": q2(params, z1)}

    def log_ratios(params, q, z, hypers):
        p1 = Affine.apply(params["prior"], z["z2"])
        p2 = Gaussian(jnp.zeros(top), jnp.zeros(top))
        log_q1 = jnp.where(active(hypers), distributions.log_prob(q["z1"], z["z1"]), 0.0)
        log_p1 = jnp.where(active(hypers), distributions.log_prob(p1, z["z1"]), 0.0)
        log_q2 = distributions.log_prob(q["z2"], z["z2"])
        return {"z1": (log_q1, log_p1), "z2": (log_q2, distributions.log_prob(p2, z["z2"]))}

    def log_q(params, x, z, hypers):
        q = {"z1": q1(params, x, hypers), "z2": q2(params, z["z1"])}
        return sum(pair[0].sum() for pair in log_ratios(params, q, z, hypers).values())

    def log_prior(params, z, hypers):
        q = {"z1": Gaussian(z["z1"], jnp.zeros(width)), "z2": Gaussian(z["z2"], jnp.zeros(top))}
        return sum(pair[1].sum() for pair in log_ratios(params, q, z, hypers).values())

    def log_joint(params, x, z, hypers):
        return p_x.log_prob(params, z["z1"], as_example(x)) + log_prior(params, z, hypers)

    def draw(params, x, rng, hypers, path_weight=None, score=None, offset=None):
        first, second = jax.random.split(rng)
        of_q1 = q1(params, x, hypers, offset)
        eps = jnp.where(active(hypers), jax.random.normal(first, (width,)), 0.0)
        z1 = distributions.sample(of_q1, eps)
        of_q2 = q2(params, z1, offset)
        z = {"z1": z1, "z2": distributions.sample(of_q2, jax.random.normal(second, (top,)))}
        if path_weight is not None:
            z = scale_gradient(z, path_weight)
        used = params, offset
        if not keeps_score(path_weight, score):
            used = jax.lax.stop_gradient(used)
        q = {"z1": q1(used[0], x, hypers, used[1]), "z2": q2(used[0], z["z1"], used[1])}
        ratios = log_ratios(params, q, z, hypers)
        rate = {layer: log_q - log_p for layer, (log_q, log_p) in ratios.items()}
        log_p_x = p_x.log_prob(params, z["z1"], as_example(x))
        log_w = log_p_x - rate["z1"].sum() - rate["z2"].sum()
        return Draw(-log_p_x, rate, log_w, z, {"z1": of_q1, "z2": of_q2})

    def decode(params, z, condition=None, rng=None):
        if rng is not None:
            return p_x.sample(params, z["z1"], rng, condition)
        return p_x.mean(params, z["z1"], condition)

    def sample_prior(params, rng, hypers, _condition=None):
        first, second = jax.random.split(rng)
        z2 = jax.random.normal(second, (top,))
        z1 = distributions.sample(
            Affine.apply(params["prior"], z2), jax.random.normal(first, (width,))
        )
        return {"z1": jnp.where(active(hypers), z1, 0.0), "z2": z2}

    return Model(init, encode, log_q, log_joint, draw, decode, sample_prior, log_prior=log_prior)


TWO_LAYERS = Part(
    "model",
    "two_layers",
    make_two_layers,
    "Two-layer VAE",
    fields={"top_dim": Field(2, "units of the top layer", above=0)},
    provides=("a rate", "a prior"),
)

# An objective with a discriminator and an optimizer of its own: FactorVAE (Kim & Mnih 2018).


def make_factor(section, z_like) -> Objective:
    width = z_like.shape[0]
    fields = SimpleNamespace(hidden=section.discriminator, activation="relu")
    network = mlp.make(fields, (width,), (width,), 1).encoder

    def logit(params, z):
        return network.apply(params, z)[0][0]

    def loss(params, draws, _x, rng, hypers):
        draw = draws(params)
        z = draw.z[:, 0]
        constant = jax.lax.stop_gradient
        total_correlation = jax.vmap(lambda z: logit(constant(params["objective"]), z))(z).mean()
        keys = jax.random.split(rng, width)
        permuted = jax.vmap(jax.random.permutation, (0, 1), 1)(keys, constant(z))
        real = jax.vmap(lambda z: logit(params["objective"], z))(constant(z))
        fake = jax.vmap(lambda z: logit(params["objective"], z))(permuted)
        adversary = optax.sigmoid_binary_cross_entropy(real, jnp.ones_like(real)).mean()
        adversary += optax.sigmoid_binary_cross_entropy(fake, jnp.zeros_like(fake)).mean()
        distortion, rate = draw.distortion.mean(), draw.rate.sum(-1).mean()
        value = distortion + rate + hypers["tc_weight"] * total_correlation + adversary
        metrics = {"elbo": -(distortion + rate), "distortion": distortion, "rate": rate}
        return value, metrics | {"tc": total_correlation, "adversary": adversary}

    return Objective(
        init=lambda rng, _hypers: network.init(rng, 1),
        loss=loss,
        optimizer=lambda hypers: optax.chain(
            optax.clip_by_global_norm(1.0), optax.adam(hypers["adversary_rate"], b1=0.5)
        ),
    )


FACTOR = Part(
    "objective",
    "factor",
    make_factor,
    "FactorVAE",
    fields={"discriminator": Field((8,), "hidden layers of the discriminator", above=0)},
    hypers={
        "tc_weight": Field(2.0, "weight of the total correlation", least=0),
        "adversary_rate": Field(1e-3, "learning rate of the discriminator", above=0),
    },
    needs=("a rate",),
)

# An estimator with its words and its plot.


def radius_task(study) -> Task:
    x = study.test_examples()

    def norms(_i):
        q = study.run.model
        one = jax.vmap(lambda x: q.encode(study.run.params, x, study.run.hypers).mean)
        return {"norm": np.linalg.norm(np.asarray(one(x)), axis=1)}

    return Task(
        about="norms of the codes",
        settings={"power": study.run.config.eval.radius_power},
        num=len(study.positions),
        size=len(study.positions),
        block=norms,
        units=1,
        unit=lambda: norms(0)["norm"],
        summarize=lambda arrays, _others: {
            "moment": float((arrays["norm"] ** study.run.config.eval.radius_power).mean())
        },
    )


def draw_radius(path, found, _member, title):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3, 3))
    figure.subplots().bar(["moment"], [found["moment"]])
    figure.suptitle(title)
    figure.savefig(path)


RADIUS = Estimator(
    name="radius",
    task=radius_task,
    line=lambda found: f"the moment of the norm of codes is {found['moment']:.3f}",
    meaning="how far codes lie from the origin",
    pictures=(Picture("radius.png", "**Radius.** How far codes lie out.", draw_radius),),
    needs=lambda _eval: ("a code, the mean of q(z|x)",),
    fields={"radius_power": Field(2, "which moment of the norm", above=0)},
)


def people(hidden=np.nan):
    """Vectors of 6 columns of different scales, two of labels, a fifth of the entries missing."""
    rng = np.random.default_rng(0)
    code = rng.normal(size=(260, 2))
    x = code @ rng.normal(size=(2, 6)) + 0.3 * rng.normal(size=(260, 6))
    x = x * np.array([1.0, 10.0, 100.0, 0.1, 1.0, 1.0]) + np.array([0, 50, 1000, 0, 3, 0])
    observed = rng.random(x.shape) < 0.8
    labels = {"kind": (code[:, 0] > 0).astype(int), "age": 30 + 5 * code[:, 1]}
    return data.from_arrays(
        "people",
        np.where(observed, x, hidden),  # what is missing must not matter
        num_valid=40,
        num_test=40,
        observed=observed,
        labels=labels,
        class_names={"kind": ("left", "right")},
        columns=list("abcdef"),
    )


@pytest.fixture(scope="module")
def vectors():
    return people()


def small(config):
    config.data.binarize, config.likelihood.name = "none", "gaussian"
    config.network.hidden = (8,)
    config.hypers.latent_dim = 3
    config.train.batch_size = 30
    config.train.num_epochs = 2.0
    config.train.schedule_epochs = 2.0
    config.train.steps_per_call = 3
    config.eval.nll_samples = 4
    config.eval.bounds_examples = 10
    config.checkpoint.every_epochs = 1.0
    config.sweep.mode = "zip"
    config.sweep.max_members = 2  # else one more trace finds it out
    return config


FAST = {
    "eval.iwae_samples": (10,),
    "eval.ais_chains": 2,
    "eval.ais_distributions": 5,
    "eval.ais_leapfrog": 2,
    "eval.gap_steps": 20,
}
CASES = {
    "prior and likelihood": (
        (MIXTURE, STUDENT),
        {"prior.name": "mixture", "likelihood.name": "student"},
    ),
    "model": (
        (TWO_LAYERS,),
        {"model.name": "two_layers", "eval.estimators": ("iwae", "ais", "gaps"), **FAST},
    ),
    "objective and estimator": (
        (FACTOR, RADIUS),
        {"objective.name": "factor", "eval.estimators": ("radius",)},
    ),
}
MEMBERS = {
    "prior and likelihood": [
        {"prior.components": 2, "likelihood.degrees_of_freedom": 3.0},
        {"prior.components": 4, "likelihood.degrees_of_freedom": 10.0},
    ],
    "model": [{"hypers.latent_dim": 2}, {"hypers.latent_dim": 3}],
    "objective and estimator": [
        {"hypers.tc_weight": 0.0, "hypers.latent_dim": 2},
        {"hypers.tc_weight": 5.0, "hypers.latent_dim": 3},
    ],
}


def swept(kind):
    """The parts and the configuration of the two members."""
    parts, fields = CASES[kind]
    config = small(vae_jax.default(parts))
    for name, value in fields.items():
        section, field = name.split(".")
        config[section][field] = value
    for name in MEMBERS[kind][0]:
        values = tuple(member[name] for member in MEMBERS[kind])
        config.sweep[name.removeprefix("hypers.").replace(".", "_")] = values
    return parts, config


@pytest.mark.parametrize("kind", CASES)
def test_a_part_is_trained_resumed_swept_evaluated_drawn_and_reported(
    kind, vectors, tmp_path, without_pictures
):
    rows, resumed_rows = [], []
    parts, config = swept(kind)
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    vae_jax.train(config, straight, parts, vectors, on_row=rows.append)
    leave_as_killed_in_the_second_epoch(straight, killed)
    with without_pictures():
        vae_jax.train(config, killed, parts, vectors, on_row=resumed_rows.append)
        best = vae_jax.evaluate(straight, parts=parts, dataset=vectors)
    runs = [vae_jax.load(straight, member, parts) for member in (0, 1)]
    for run in runs:
        resumed = vae_jax.load(killed, run.member, parts)
        jax.tree.map(np.testing.assert_array_equal, run.params, resumed.params)
    assert resumed_rows == [row for row in rows if row["step"] > EPOCH]
    written = (straight / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row) for row in written] == rows
    assert sorted((killed / "metrics.jsonl").read_text().splitlines()) == sorted(written)

    members = best.results["members"]
    assert [member["swept"] for member in members] == MEMBERS[kind]
    for member in members:
        assert np.isfinite(member["test"]["nll"]) and np.isfinite(member["test"]["elbo"])
    page = vae_jax.report(straight, parts).read_text()
    assert "people" in page
    assert best.sample(jax.random.key(0), 3).shape == (3, 6)
    with pytest.raises(UserError, match=r"is one of your own: give it again, in parts="):
        vae_jax.load(straight)
    pictures = straight / "members" / str(best.member)
    CHECKS[kind](runs, best.results, rows, page, pictures)


EPOCH = 6  # steps


def leave_as_killed_in_the_second_epoch(finished, folder):
    """A copy of a run that has only the rows of its second epoch, which was not saved."""
    shutil.copytree(finished, folder)
    (folder / "results.json").unlink()
    (folder / "report.html").unlink()
    last = list(folder.glob(f"checkpoints/**/{2 * EPOCH}"))
    assert last
    for checkpoint in last:
        shutil.rmtree(checkpoint)


def check_prior_and_likelihood(runs, results, rows, page, pictures):
    assert [run.params["prior"]["mean"].shape for run in runs] == [(2, 3), (4, 3)]
    for member in results["members"]:
        assert member["test"]["unit_rate"] is None  # the log ratio does not factorize
    assert [run.config.likelihood.degrees_of_freedom for run in runs] == [3.0, 10.0]


WIDTHS = [{"z1": 2, "z2": 2}, {"z1": 3, "z2": 2}]


def check_model(runs, results, rows, page, pictures):
    assert [run.latent_dim for run in runs] == WIDTHS
    for member, widths in zip(results["members"], WIDTHS, strict=True):
        for units in ("unit_rate", "unit_activity"):
            assert {k: len(v) for k, v in member["test"][units].items()} == widths
    found = results["evaluation"][0]
    assert np.isfinite(found["ais"]["log_p"]) and np.isfinite(found["iwae"]["bounds"][0]["log_p"])
    assert found["gaps"]["elbo"] < found["gaps"]["best_elbo"]
    assert "importance" in page and "amortization gap" in page
    assert (pictures / "latents_z2.png").exists()
    check_gradients(runs[1])


def check_gradients(run):
    """Those of draws are finite in every form that an objective may ask for."""
    x, key = jax.random.normal(jax.random.key(1), (5, 6)), jax.random.key(2)

    def log_w(params, weight, score):
        weights = None if weight is None else jnp.full((5, 2), weight)
        positions, samples = jnp.arange(5), jnp.arange(2)
        args = (run.model, params, x, key, positions, samples, run.hypers, weights, score)
        return draw_batch(*args).log_w.mean()

    for form in ((None, None), (1.0, None), (0.0, True)):
        grads = jax.jit(jax.grad(log_w), static_argnums=(1, 2))(run.params, *form)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def check_objective_and_estimator(runs, results, rows, page, pictures):
    train = [row for row in rows if row["split"] == "train"]
    assert all(np.isfinite(row["tc"]) and row["adversary"] > 0 for row in train)
    assert all(run.params["objective"] for run in runs)
    found = results["evaluation"][0]["radius"]
    assert found["moment"] > 0
    assert f"the moment of the norm of codes is {found['moment']:.3f}" in page
    assert "how far codes lie from the origin" in page and "How far codes lie out." in page
    assert (pictures / "radius.png").exists()


CHECKS = {
    "prior and likelihood": check_prior_and_likelihood,
    "model": check_model,
    "objective and estimator": check_objective_and_estimator,
}


def test_a_dataset_has_its_own_labels_and_missing_values(vectors, tmp_path, undrawn):
    parts, config = (STUDENT,), small(vae_jax.default((STUDENT,)))
    config.eval.label = "kind"
    config.eval.estimators = ("probes",)
    run = vae_jax.train(config, tmp_path / "run", parts, vectors)
    described = run.results["dataset"]
    assert described["labels"] == ["kind", "age"] and described["missing"]
    assert run.codes(vectors, "test").label.tolist() == vectors.test.labels(slice(None)).tolist()
    scaling = described["scaling"]
    assert scaling["scale"][2] == pytest.approx(np.nanstd(observed_of(vectors)[:, 2]), rel=1e-4)
    assert 0 <= run.results["evaluation"][0]["probes"]["linear_probe"] <= 1

    again = vae_jax.train(config, tmp_path / "again", parts, people(hidden=1e6))
    jax.tree.map(np.testing.assert_array_equal, run.params, again.params)

    config.data.condition = ("age",)
    with pytest.raises(UserError, match=r"names age, but only models and objectives"):
        vae_jax.train(config, tmp_path / "other", parts, vectors)
    config.data.condition = ()

    config.eval.label = "height"
    with pytest.raises(UserError, match=r"eval.label is 'height', but people has kind, age"):
        vae_jax.train(config, tmp_path / "other", parts, vectors)


def observed_of(dataset):
    rows = dataset.train.examples(slice(None))
    return np.where(rows.observed, rows.x, np.nan)


def test_a_field_that_no_chosen_part_has_is_an_error_and_a_name_is_taken_once(tmp_path):
    config = vae_jax.default((STUDENT,))
    assert config.likelihood.degrees_of_freedom == 4.0
    config.likelihood.degrees_of_freedom = 7.0
    told = "likelihood.degrees_of_freedom is of likelihood.name student, but likelihood.name is"
    with pytest.raises(UserError, match=told):
        vae_jax.train(config, tmp_path, (STUDENT,), asked=("likelihood.degrees_of_freedom",))
    with pytest.raises(UserError, match=r"there is a likelihood 'gaussian' already"):
        vae_jax.default((STUDENT._replace(name="gaussian"),))
    with pytest.raises(UserError, match=r"declares likelihood.sigma unlike another part"):
        vae_jax.default((STUDENT._replace(fields={"sigma": Field(2.0, "another")}),))
