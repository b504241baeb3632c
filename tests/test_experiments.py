"""The scripts of experiments/ run at reduced size, and what they compute is right."""

import importlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vae_jax
from vae_jax.distributions import Gaussian
from vae_jax.models.draws import draw_batch

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
# What a script is given to run in seconds; {run}: a trained run of the 8x8 digits.
DATA = ["--data=digits", "--epochs=0.3"]
SMALL = {
    "ae_vs_vae.py": [
        *["--config={configs}/digits.py", "--epochs=0.3", "--num=100", "--units", "2", "3"],
        "--workdir={folder}/runs",
    ],
    "two_terms.py": [
        *[*DATA, "--betas", "0", "1", "--units=3", "--samples=2", "--examples=3"],
        *["--distributions=3", "--workdir={folder}/run"],
    ],
    "posteriors.py": [*DATA, "--workdir={run}", "--workdir_2d={folder}/run"],
    "reparameterization.py": [
        *[*DATA, "--num_valid=100", "--every_epochs=0.1", "--hidden=10", "--latent_dim=3"],
        *["--gradients=20", "--batch=5", "--learning_rates", "0.001", "0.01"],
        "--workdir={folder}/runs",
    ],
    "gradient_estimators.py": [
        *["--data=digits", "--epochs=0.3", "--workdir={folder}/run", "--largest=32", "--draws=16"],
        *["--samples", "2", "3", "--gradients=10", "--batch=5"],
    ],
    "strangeness.py": [
        *["--workdir={run}", "--workdirs={folder}/beside", "--epochs=0.3", "--num=20"],
        "--samples=2",
    ],
    "similarity.py": [
        *["--workdir={run}", "--num=20", "--samples=2", "--originals=10", "--draws=10"],
        "--alike=30",
    ],
}


def script(name):
    """A script as a module."""
    return importlib.import_module(name.removesuffix(".py"))


@pytest.fixture(autouse=True)
def beside_each_other(monkeypatch):
    """As `python experiments/<script>` has them."""
    monkeypatch.syspath_prepend(EXPERIMENTS)


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    """A run of the 8x8 digits, hardly trained."""
    config = vae_jax.default()
    config.data.name, config.data.num_valid = "digits", 100
    config.network.hidden, config.hypers.latent_dim = (16,), 3
    config.train.num_epochs, config.eval.nll_samples = 0.5, 2
    folder = tmp_path_factory.mktemp("experiments") / "run"
    vae_jax.train(config, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_script_runs_at_reduced_size(name, digits_run, tmp_path, capsys, undrawn):
    places = {"run": digits_run, "folder": tmp_path, "configs": EXPERIMENTS.parent / "configs"}
    output = tmp_path / "output"
    arguments = [argument.format(**places) for argument in SMALL[name]]
    script(name).main([*arguments, f"--output={output}"])
    assert f"wrote {output / 'table.md'}" in capsys.readouterr().out
    for file in ("figure.png", "table.md"):
        assert (output / file).stat().st_size > 500
        committed = EXPERIMENTS / name.removesuffix(".py") / file
        assert 500 < committed.stat().st_size < 800_000


@pytest.mark.parametrize(
    ("name", "arguments", "line"),
    [
        ("reparameterization.py", ["--data=nothing"], "there is no dataset 'nothing'"),
        ("reparameterization.py", ["--gradients=1"], "--gradients is too small: 1"),
        ("gradient_estimators.py", ["--data=nothing"], "there is no dataset 'nothing'"),
        ("gradient_estimators.py", ["--samples", "5", "1"], "--samples is too small: 1"),
        ("strangeness.py", ["--workdir={folder}/none"], "holds no run"),
        ("similarity.py", ["--workdir={folder}/none"], "holds no run"),
    ],
)
def test_wrong_arguments_are_one_clear_line(name, arguments, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [argument.format(folder=tmp_path) for argument in arguments]
    with pytest.raises(SystemExit) as stopped:
        script(name).main([*arguments, f"--output={tmp_path / 'output'}"])
    said = str(stopped.value) + capsys.readouterr().err
    assert line in said and "Traceback" not in said
    assert not (tmp_path / "output").exists()


# reparameterization.py


@pytest.mark.parametrize("gradient", ["pathwise", "score_loo", "score"])
def test_every_estimator_has_the_exact_gradient_of_a_quadratic(gradient):
    module, num = script("reparameterization.py"), 20_000
    case = module.Quadratic(3)
    directions = jnp.eye(6)
    found = case.found(gradient, num, directions=directions)
    error = found.along.std(0, ddof=1) / np.sqrt(num)
    np.testing.assert_array_less(np.abs(found.mean - case.exact()), 4 * error)
    np.testing.assert_allclose(found.along.mean(0), found.mean, atol=1e-4)
    np.testing.assert_allclose(found.along.var(0, ddof=1).sum(), found.variance, rtol=1e-3)


def test_the_variances_of_the_estimators_are_the_known_ones():
    module, num, samples = script("reparameterization.py"), 20_000, 2
    case, variance = module.Quadratic(1), 0.25
    # f(z) = (z - 1)^2 / 2 + log(2 pi) / 2 at z = eps / 2; of the mean z - 1, of the logarithm of
    # the variance (z - 1) eps / 4.
    path = variance + (variance**2 / 2 + variance * 1 / 4)
    found = case.found("pathwise", num, samples).variance
    np.testing.assert_allclose(found, path / samples, rtol=0.05)
    # f(z) times the score (eps / sigma, (eps^2 - 1) / 2), by quadrature.
    eps, weight = np.polynomial.hermite_e.hermegauss(40)
    weight = weight / weight.sum()
    f = (eps / 2 - 1) ** 2 / 2 + np.log(2 * np.pi) / 2
    score = np.stack([(eps**2 - 1) / 2, eps / 0.5])
    single = (weight * (f * score) ** 2).sum(1) - (weight * f * score).sum(1) ** 2
    found = case.found("score", num, samples).variance
    np.testing.assert_allclose(found, single.sum() / samples, rtol=0.05)


def test_the_score_function_leaves_the_decoder_its_gradient():
    module = script("reparameterization.py")
    case = module.Quadratic(2)
    params = case.params | {"decoder": case.params["decoder"] | {"network": jnp.float32(0.3)}}

    def draws(params, path_weight=None, score=None):
        z = jnp.array([[0.2, -0.4]])  # B = 1, K = 2
        distortion = (z - params["decoder"]["network"]) ** 2
        return vae_jax.types.Draw(distortion, jnp.zeros((1, 2, 1)), -distortion, z, None)

    def loss(params, gradient):
        objective = module.make_objective(gradient, 2)
        return objective.loss(params, draws, case.x, None, {"beta": 1.0})[0]

    for gradient in module.GRADIENTS:
        value, slope = jax.value_and_grad(loss)(params, gradient)
        np.testing.assert_allclose(value, (0.1**2 + 0.7**2) / 2, rtol=1e-5)
        np.testing.assert_allclose(slope["decoder"]["network"], 0.1 + 0.7, rtol=1e-5)


def test_a_sample_has_a_derivative_only_with_epsilon_fixed():
    module = script("reparameterization.py")
    errors = module.quotients(500)
    anew = errors["drawn anew, in the mean"]
    np.testing.assert_allclose(anew * module.STEPS, anew[0], rtol=1e-6)  # like 1 / h
    assert errors["epsilon fixed, in the mean"].max() < 1e-7  # linear: all of it is rounding
    curved = errors["epsilon fixed, in log sigma²"]
    np.testing.assert_allclose(curved[1:5] / curved[2:6], 10, rtol=0.05)  # like h
    assert not jax.config.jax_enable_x64


def test_the_first_epoch_is_when_a_curve_gets_there():
    module = script("reparameterization.py")
    curve = module.Curve(0.1, 0, np.array([1.0, 2.0, 3.0]), np.array([-9.0, -5.0, -6.0]), -6.0)
    assert module.first_epoch(curve, -5.5) == 2 and module.first_epoch(curve, -1) == np.inf
    assert curve.reached == -6


# gradient_estimators.py


def test_signal_noise_and_t_are_those_of_the_moments():
    module = script("gradient_estimators.py")
    found = module.Moments(np.array([3.0, 4.0, 0.0]), np.array([40.0, 60.0, 0.0]), 10)
    assert found.signal() == pytest.approx(np.sqrt(3**2 + 4**2 - 40 / 10 - 60 / 10))
    assert found.noise() == pytest.approx(10)
    np.testing.assert_allclose(found.t(), [3 / 2, 4 / np.sqrt(6), 0])
    assert found.of(slice(0, 1)).noise() == pytest.approx(np.sqrt(40))
    assert module.Moments(np.ones(2), np.full(2, 40.0), 10).signal() == 0  # noise alone
    pair = module.Moments(np.array([0.0, 7.0]), np.full(2, 5.0), 10)
    true = module.Moments(np.array([3.0, 4.0]), np.zeros(2), 10)
    of_toy = {("STL", "DReG"): pair, "DReG": true}
    assert module.bias(of_toy) == pytest.approx((np.sqrt(48) / 5, 1 / 5))
    assert module.largest_by_chance(1) == pytest.approx(0.6745, abs=1e-4)  # the median of |N(0, 1)|


def test_the_moments_are_of_gradients_over_all_blocks():
    module, num = script("gradient_estimators.py"), 4000
    blocks, sigma = jnp.arange(24.0).reshape(2, 4, 3), 0.5

    def loss(params, x, key):
        noise = sigma * jax.random.normal(key, (3,))
        return params["encoder"]["v"] @ (jnp.mean(x, axis=0) + noise), {}

    losses = {"one": loss, "twice": lambda *args: (2 * loss(*args)[0], {})}
    params, keys = {"encoder": {"v": jnp.ones(3)}}, jax.random.split(jax.random.key(0), num)
    found = module.moments(losses, params, blocks, keys, [("twice", "one")])
    mean, variance = blocks.reshape(8, 3).mean(0), sigma**2 / 2  # of two blocks
    for name, factor in (("one", 1), ("twice", 2), (("twice", "one"), 1)):
        some = found[name]
        error = factor * np.sqrt(variance / num)
        np.testing.assert_allclose(some.mean, factor * mean, atol=4.5 * error)
        np.testing.assert_allclose(some.variance, factor**2 * variance, rtol=0.1)
        # The summed squares of three Gaussians have chi-square's relative variance, 2 / 3.
        assert some.error == pytest.approx(np.sqrt(2 / 3 / num), rel=0.1)


def test_the_slope_is_the_power_of_a_power_law():
    module = script("gradient_estimators.py")
    law = {2**i: 3 * 2 ** (-0.5 * i) for i in range(4)}
    assert module.slope(law, 1) == pytest.approx(-0.5)
    assert module.slope(law | {1: 100.0}, 2) == pytest.approx(-0.5)
    assert np.isnan(module.slope(law, 8))


def test_the_signal_and_noise_of_one_sample_on_the_toy_are_the_known_ones():
    """With K = 1 the gradient of b is 2 d + 2 s eps, that of DReG 2 d + (2 s - 1 / s) eps, where d
    is the error of the mean of q and s^2 = 2/3 its variance."""
    module = script("gradient_estimators.py")
    toy, dim, num = module.Toy(), module.DIM, 100
    found = toy.found(1, num)
    encoder, mu = toy.params["encoder"], toy.params["prior"]["mean"]
    error = np.mean(toy.x @ encoder["A"].T + encoder["b"] - (toy.x + mu) / 2, axis=0)
    signal, sigma = 2 * np.linalg.norm(error), np.sqrt(2 / 3)
    for name, spread in ((module.PLAIN, 2 * sigma), ("DReG", 2 * sigma - 1 / sigma)):
        of_b = found[name].of(toy.PARTS["b"])
        noise = spread * np.sqrt(dim / module.POINTS)
        np.testing.assert_allclose(of_b.noise(), noise, rtol=0.05)
        ratio = module.ratios({1: found}, name, "b")[1]
        np.testing.assert_allclose(ratio, signal / noise, rtol=0.08)
    t = found["DReG", module.PLAIN].of(toy.PARTS["b"]).t()
    assert 0.5 < np.sqrt(np.mean(t**2)) < 1.6
    assert np.abs(found["STL", "DReG"].mean).max() < 1e-6  # IWAE of one sample is the ELBO


@pytest.mark.parametrize("bound", ["elbo", "iwae"])
def test_the_score_function_without_a_baseline_is_its_equation(bound):
    module, samples = script("gradient_estimators.py"), 3
    toy, key = module.Toy(), jax.random.key(1)
    args = toy.x[:1], vae_jax.rng.of_loss(key).epsilon, jnp.arange(1), jnp.arange(samples)
    draw = jax.jit(lambda: draw_batch(toy.model, toy.params, *args, toy.hypers))()
    log_w, z = draw.log_w[0], draw.z[0]

    def log_q(b, z):
        encoder = toy.params["encoder"] | {"b": b}
        return toy.model.log_q(toy.params | {"encoder": encoder}, toy.x[0], z, toy.hypers)

    score = jax.jit(jax.vmap(jax.grad(log_q), (None, 0)))
    score = score(toy.params["encoder"]["b"], z)  # [K, DIM]
    if bound == "elbo":
        weight = (log_w - 1) / samples
    else:
        weight = jax.nn.logsumexp(log_w) - np.log(samples) - jax.nn.softmax(log_w)
    loss_fn = module.loss_of(bound, module.BARE, toy.model, toy.hypers, samples)
    of = jax.jit(jax.value_and_grad(lambda params: loss_fn(params, toy.x[:1], key)[0]))
    value, found = of(toy.params)
    np.testing.assert_allclose(found["encoder"]["b"], -weight @ score, rtol=1e-4, atol=1e-4)
    mean = jnp.mean(log_w) if bound == "elbo" else jax.nn.logsumexp(log_w) - np.log(samples)
    np.testing.assert_allclose(value, -mean, rtol=1e-5)


# strangeness.py and similarity.py


def test_a_code_length_is_that_of_the_estimator():
    module = script("strangeness.py")
    blank = np.zeros((1, 28, 28, 1), np.uint8)
    before = np.arange(784)
    expected = -np.log((before + 0.5) / (before + 1)).sum()
    np.testing.assert_allclose(module.context_length(blank), expected)
    noise = module.binarized(np.full((20, 28, 28, 1), 128, np.uint8), 0)
    lengths = module.context_length(noise)
    assert (lengths > 784 * np.log(2)).all()  # nothing shortens fair coins, on average
    assert lengths.mean() < 784 * np.log(2) + 64 * 4  # and 64 contexts are not dear to learn
    assert module.file_length(blank) < module.file_length(noise).min()


def test_a_code_length_is_that_of_a_code():
    """Over all images of a size the probabilities exp(-L) sum to 1."""
    module = script("strangeness.py")
    bits = (np.arange(2**9)[:, None] >> np.arange(9)) & 1
    images = (255 * bits).reshape(-1, 3, 3, 1).astype(np.uint8)
    np.testing.assert_allclose(np.exp(-module.context_length(images)).sum(), 1)


def test_binarized_pixels_have_the_probability_of_their_grey_value():
    module = script("strangeness.py")
    grey = np.array([0, 51, 255]).repeat(20_000)
    share = (module.binarized(grey, 0).reshape(3, -1) == 255).mean(1)
    np.testing.assert_allclose(share, [0, 0.2, 1], atol=0.01)
    assert share[0] == 0 and share[2] == 1


def test_neighbours_vote_and_nobody_for_himself():
    module = script("similarity.py")
    label, place = np.array([0, 0, 1, 1, 1]), np.array([[0.0], [1.0], [10.0], [11.0], [1.2]])
    likeness = -module.squared_distances(place)
    assert module.accuracy(likeness, label, 1) == 3 / 5  # place 1.2 and place 1 are neighbours
    far = likeness.copy()
    np.fill_diagonal(far, -1e9)
    assert module.accuracy(far, label, 1) == 3 / 5
    # Columns are asked, rows are neighbours.
    uneven = np.array([[0, 9, 9], [1, 0, 0], [2, 1, 0]], float)
    assert module.accuracy(uneven, np.array([0, 0, 2]), 1) == 1 / 3


def test_a_divergence_is_that_of_gaussians():
    module = script("similarity.py")
    mean, logvar = jax.random.normal(jax.random.key(0), (2, 4, 3))
    found = module.divergence(Gaussian(mean, logvar))
    for a in range(4):
        for b in range(4):
            ratio = jnp.exp(logvar[b] - logvar[a])
            square = (mean[a] - mean[b]) ** 2 / jnp.exp(logvar[a])
            expected = 0.5 * jnp.sum(ratio + square - 1 - jnp.log(ratio))
            np.testing.assert_allclose(found[a, b], expected, atol=1e-4)


def test_scores_are_larger_for_what_is_stranger():
    module, zeros = script("strangeness.py"), np.zeros(2)
    x = np.zeros((2, 4, 4, 1), np.uint8)
    digits = module.Found(x, np.array([-90.0, -80.0]), zeros, zeros, zeros, zeros, zeros, zeros)
    strange = digits._replace(log_p=np.array([-300.0, -20.0]), elbo=np.array([-310.0, -25.0]))
    found = module.areas(digits, {"strange": strange}, -85.0)["strange"]
    assert found["log p"] == 0.5 and found["typicality"] == 1.0


# ae_vs_vae.py, two_terms.py and posteriors.py


def test_pairs_of_other_labels_are_counted_among_the_closest():
    module = script("ae_vs_vae.py")
    place = np.repeat(np.arange(50.0)[:, None] * 100, 2, 0)  # 50 pairs of equal codes of 4,950
    place[1::2] += 0.1
    label = np.tile([0, 0, 0, 1], 25)
    # 1% are 49 pairs, all of them of one place: of every second place the labels differ.
    assert module.other_label(place, np.zeros(100)) == 0
    assert abs(module.other_label(place, label) - 0.5) < 0.02


def test_a_hole_is_farther_from_all_codes_than_codes_are():
    module = script("ae_vs_vae.py")
    rng = np.random.default_rng(0)
    train, test = rng.uniform(size=(2000, 2)), rng.uniform(size=(1000, 2))
    drawn = np.concatenate([train[:300], train[:100] + 5])
    assert module.holes(train, test, drawn) == 0.25
    assert module.holes(train, test, test) == pytest.approx(0.01, abs=0.001)


def test_steps_along_a_line_are_equal_in_z_and_measured_in_x():
    module = script("ae_vs_vae.py")
    path = module.line(np.zeros((1, 2)), np.array([[3.0, 4.0]]))
    np.testing.assert_allclose(np.linalg.norm(np.diff(path, axis=1), axis=2), 5 / 20, rtol=1e-5)
    assert module.largest_step(path) == pytest.approx(1)
    jump = np.zeros((1, 21, 1))
    jump[:, 7:] = 1
    assert module.largest_step(jump) == pytest.approx(20)


def test_purity_is_the_share_of_the_most_frequent_label():
    module = script("ae_vs_vae.py")
    known = np.concatenate([np.zeros((10, 1)), np.full((10, 1), 9.0)])
    label = np.array([0] * 7 + [1] * 3 + [2] * 10)
    train = module.Examples(known, label)
    setting = module.Setting(train, train, 1, lambda example: example.x, known, None)
    assert module.purity(setting, np.array([[0.1]])) == pytest.approx(0.7)
    assert module.purity(setting, np.array([[0.1], [8.9]])) == pytest.approx(0.85)


def test_the_squares_of_the_spreads_add_up_to_the_variance_of_the_aggregate():
    module = script("posteriors.py")
    rng = np.random.default_rng(0)
    mean, logvar = rng.normal(2, 0.8, (20_000, 3)), rng.normal(-1, 0.3, (20_000, 3))
    codes = vae_jax.run.Codes(mean, logvar, np.zeros(20_000), np.arange(20_000))
    active = np.array([True, True, False])
    of_q, of_means, distance, rate = module.spreads(codes, np.full(20_000, True), active)
    z = mean + np.exp(0.5 * logvar) * rng.normal(size=mean.shape)
    assert of_q**2 + of_means**2 == pytest.approx(z[:, active].var(0).mean(), rel=0.02)
    assert distance == pytest.approx(2, rel=0.02)
    of_unit = 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar)
    assert rate == pytest.approx(of_unit.sum(1).mean(), rel=1e-4)


def test_bounds_on_the_kl_of_the_aggregate_are_possible_values():
    module = script("two_terms.py")

    def bounds(lower, upper, of_units):
        names = ("aggregate_kl_lower", "aggregate_kl", "dimension_wise_kl_lower")
        return module.aggregate_bounds(dict(zip(names, (lower, upper, of_units), strict=True)))

    assert bounds(0.3, 0.5, 0.1) == (0.3, 0.5)
    assert bounds(-20.0, 17.0, 0.1) == (0.1, 17.0)  # at least that of single units
    assert bounds(-0.1, -0.01, -0.02) == (0.0, 0.0)  # of an empty code, but for noise


# iwae_table.py


def test_differences_of_rows_are_paired_over_images_and_seeds():
    paired = script("iwae_table.py").paired
    first = np.array([[-86.0, -90.0, -70.0], [-85.0, -91.0, -72.0]], np.float32)
    second = first + np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], np.float32)
    mean, error, of_seeds = paired(first, second)  # the second explains the images better
    assert (mean, error, of_seeds) == (2.0, 0.0, [2.0, 2.0])
    second[0] += [0, 0, 3]
    mean, error, of_seeds = paired(first, second)
    assert (mean, of_seeds) == (2.5, [3.0, 2.0])
    assert error == pytest.approx(np.std([2, 2, 3.5], ddof=1) / np.sqrt(3))


def test_cells_of_the_table_are_means_over_seeds_and_corrections():
    module = script("iwae_table.py")
    assert module.mean_and_sd([86.0, 87.0, 88.0]) == "87.00 (sd 1.00)"
    assert module.mean_and_sd([86.0]) == "86.00"
    one = [{"layers": None, "active_units": n} for n in (19, 20)]
    two = [
        {"layers": {"z1": {"active_units": n}, "z2": {"active_units": 5}}, "active_units": n + 5}
        for n in (16, 17)
    ]
    assert module.units(one) == "19.5" and module.units(two) == "16.5+5.0"
    about = {
        "seeds": [3, 4],
        "test": [{"nll": 87.0, "nll_stderr": 0.2}, {"nll": 86.5, "nll_stderr": 0.21}],
        "ais": [{"seed": 4, "above_iwae": {"difference": 0.4, "stderr": 0.03}}],
    }
    assert module.by_ais(about) == "86.10 = 86.50 +- 0.21 - (0.40 +- 0.03)"


@pytest.mark.slow
def test_the_table_goes_on_and_marks_what_has_not_been_trained(tmp_path, capsys, undrawn):
    arguments = ["--data=digits", "--seeds=0,1", "--epochs=0.5", "--samples=3", "--examples=3"]
    arguments += ["--chains=2", "--distributions=3", f"--workdir={tmp_path / 'runs'}"]
    arguments += ["--rows=1/vae/1,1/iwae/5/dreg,2/vae/1", f"--output={tmp_path}"]
    module = script("iwae_table.py")
    with pytest.raises(SystemExit):
        module.main([*arguments, "--rows=1/vae/7"])
    assert "there is no row '1/vae/7'" in capsys.readouterr().err
    module.main([*arguments, "--minutes=0"])
    assert (tmp_path / "table.md").read_text().count("not run: 0.0 h") == 3
    module.main([*arguments, "--rows=1/vae/1,2/vae/1", "--seeds=0"])
    module.main([*arguments, "--rows=2/vae/1"])  # the other seed
    module.main([*arguments, "--minutes=0"])
    table = (tmp_path / "table.md").read_text()
    assert table.count("not run: 0.0 h") == 1 and "| 2/vae/1 less 1/vae/1 | -1.43 |" in table
    both = module.kept(tmp_path / "2-vae-1")
    assert both.about["seeds"] == [0, 1] and both.log_p.shape == both.elbo.shape == (2, 300)
    nll = [test["nll"] for test in both.about["test"]]
    np.testing.assert_allclose(-both.log_p.mean(1), nll, atol=0.001)
