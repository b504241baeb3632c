"""The latent explorer of report.html: what its file holds, and what a browser makes of it."""

import base64
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import untrained
from making import KNOWN
from test_report import Reader, assert_self_contained, browse

import vae_jax
from vae_jax import data
from vae_jax.errors import UserError
from vae_jax.likelihoods import LIKELIHOODS
from vae_jax.likelihoods.gaussian import gaussian
from vae_jax.networks import layers
from vae_jax.results import explorer, finish
from vae_jax.types import Part
from vae_jax.workdir import files, markup

RNG = np.random.default_rng(0)
RATE, ACTIVITY = [0.5, 0.0, 2.0], [0.3, 0.001, 0.8]  # of the three units of `config`
TEST = {"rate": 2.5, "unit_rate": RATE, "unit_activity": ACTIVITY}
NO_RATE = {"rate": None, "unit_rate": None, "unit_activity": None}
OWN = Part("likelihood", "own", lambda _: gaussian(1.0, False)._replace(javascript=""), "one's own")


def colours():
    """Values in [0, 1] as colour images [4, 5, 3]."""
    x = RNG.integers(0, 256, (60, 4, 5, 3)).astype(np.uint8)
    return data.from_arrays("colours", x[:40], x[40:], num_valid=5)


def vectors():
    """Columns with units of their own."""
    x = (RNG.normal(size=(60, 7)) * 10.0 ** np.arange(-2, 5) + 100).astype(np.float32)
    return data.from_arrays("vectors", x[:40], x[40:], num_valid=5)


def of_run(run, dataset, test=TEST):
    """The arrays of explorer.npz, and the elements and the script of the page."""
    explorer.write(run, dataset, run.workdir, {"test": test})
    page, script = explorer.elements(run.workdir, run.config, run.catalogue)
    return files.read_arrays(run.workdir / explorer.FILE), page, script


def why(run, dataset):
    """Why there is no explorer, as the page says it."""
    arrays, page, script = of_run(run, dataset)
    assert "kernel_0" not in arrays and not script and len(page) == 1
    return Reader(explorer_html(page)).text


def scaled_up(run, factor=3.0):
    """Weights of such a size that codes matter, as after training, about a mean of a half."""
    network = run.params["decoder"]["network"]
    for layer in network.values():
        layer["kernel"] = factor * layer["kernel"]
    middle = np.full(run.example_shape, 0.5, np.float32).ravel()
    network[max(network)]["bias"] = run.likelihood.start(middle).ravel()
    return run


@pytest.mark.quick
def test_units_are_ordered_by_their_kl_and_range_over_the_priors_quantiles(
    tmp_path, images, config
):
    run = untrained(config, images, tmp_path / "run")
    arrays, page, script = of_run(run, images)
    assert arrays["units"].tolist() == [2, 0, 1] and arrays["num_active"] == 2
    assert np.all(arrays["high"] == 3.1) and np.all(arrays["low"] == -3.1)
    reader = Reader(explorer_html(page))
    sliders = [a for name, a in reader.elements if name == "input" and "data-unit" in a]
    assert [slider["data-unit"] for slider in sliders] == ["2", "0", "1"]
    assert all(float(s["min"]) == -3.1 and float(s["max"]) == 3.1 for s in sliders)
    assert "KL 2" in reader.text and "The other 1, which are not active" in reader.text
    assert "Draw from the prior" in reader.text and "Reset to 0" in reader.text
    # The plane is that of two units only.
    assert not [a for name, a in reader.elements if a.get("data-is") == "plane"]
    assert "function explorer" in script and "Math.tanh(x)" in script


def explorer_html(page):
    return "".join(map(markup.render, page))


@pytest.mark.parametrize("name", list(LIKELIHOODS))
def test_float16_weights_decode_to_within_a_grey_level(tmp_path, images, config, name):
    config.likelihood.name = name
    config.data.binarize = "dynamic" if name == "bernoulli" else "none"
    factor = 10.0 if name == "categorical" else 3.0  # its logits are many and average out
    run = scaled_up(untrained(config, images, tmp_path / "run"), factor)
    arrays, *_ = of_run(run, images)
    assert arrays["kernel_0"].dtype == np.float16 and 0 < arrays["difference"] < 1
    z = RNG.normal(size=(20, 3)).astype(np.float32)
    found = explorer.decode(arrays, z, run.likelihood)
    expected = np.asarray(run.decode(z)).reshape(found.shape)
    low, high = arrays["look"]
    assert np.ptp(expected, axis=0).max() > 0.02  # codes matter
    assert np.abs(np.clip(found, low, high) - np.clip(expected, low, high)).max() < 1 / 255
    codes = run.codes(images, "test", arrays["positions"])
    np.testing.assert_array_equal(arrays["codes"], codes.mean)
    x = run.as_evaluated(images, "test", arrays["positions"]).x
    np.testing.assert_array_equal(arrays["examples"], np.round(255 * np.asarray(x)))


@pytest.mark.quick
def test_weights_that_16_bits_do_not_hold_have_32(tmp_path, images, config):
    run = untrained(config, images, tmp_path / "run")
    network = run.params["decoder"]["network"]
    kernel = network["Dense_0"]["kernel"]
    network["Dense_0"]["kernel"] = kernel.at[0, 0].set(1e5)
    arrays, _, script = of_run(run, images)
    assert arrays["kernel_0"].dtype == np.float32 and arrays["difference"] < 0.01
    assert '"half": false' in script


@pytest.mark.quick
def test_values_in_units_of_their_own_are_decoded_in_them(tmp_path, config):
    dataset = vectors()
    config.likelihood.name, config.data.binarize = "laplace", "none"
    run = untrained(config, dataset, tmp_path / "run")
    arrays, page, _ = of_run(run, dataset)
    z = RNG.normal(size=(5, 3)).astype(np.float32)
    found = explorer.decode(arrays, z, run.likelihood)
    np.testing.assert_allclose(found / arrays["scale"], run.decode(z) / arrays["scale"], atol=0.01)
    assert np.all(np.std(found, axis=0) > 0.05 * arrays["scale"])
    assert arrays["scale"].shape == (7,) and arrays["scale"][-1] > 1000 * arrays["scale"][0]
    assert arrays["curve"] and "Curves run from" in explorer_html(page)


@pytest.mark.quick
def test_what_has_no_explorer_says_why(tmp_path, images, config, monkeypatch):
    config.network.name = "conv"
    config.network.channels = (4,)
    run = untrained(config, images, tmp_path / "conv")
    assert "only decoders of fully connected layers" in why(run, images)
    config.network.name, config.likelihood.name = "mlp", "own"
    config.data.binarize = "none"
    run = untrained(config, images, tmp_path / "own", parts=(OWN,))
    assert "likelihood 'own' does not say in JavaScript" in why(run, images)
    config.likelihood.name, config.data.binarize = "bernoulli", "dynamic"
    run = untrained(config, images, tmp_path / "large")
    monkeypatch.setattr(explorer, "MOST_WEIGHTS", 500)
    assert "528 weights, more than the 500" in why(run, images)  # 3 x 16 + 16 x 30
    monkeypatch.setattr(run, "latent_dim", {"z1": 3, "z2": 1})
    assert "several layers" in why(run, images)


@pytest.mark.quick
def test_a_claim_of_layers_that_do_not_decode_the_same_is_found(tmp_path, images, config):
    run = scaled_up(untrained(config, images, tmp_path / "run"))
    perceptron = run.model.perceptron
    run.model = run.model._replace(perceptron=perceptron._replace(activation="softplus"))
    assert "what the page would decode differs by" in why(run, images)


@pytest.mark.quick
def test_without_the_setting_there_is_none_and_a_damaged_file_is_said(tmp_path, images, config):
    run = untrained(config, images, tmp_path / "run")
    of_run(run, images)
    path = run.workdir / explorer.FILE
    content = path.read_bytes()
    explorer.write(run, images, run.workdir, {"test": TEST})
    assert path.read_bytes() == content  # the same numbers give the same file
    path.write_bytes(content[:1000])
    with pytest.raises(UserError, match=r"explorer.npz is damaged: --mode=evaluate"):
        explorer.elements(run.workdir, run.config, run.catalogue)
    run.config.unlock().eval.explorer = False
    explorer.write(run, images, run.workdir, {"test": TEST})
    assert not path.exists()
    assert explorer.elements(run.workdir, run.config, run.catalogue) == ([], "")


@pytest.mark.quick
@pytest.mark.parametrize("sampler", ["none", "gaussian_fit"])
def test_of_a_plain_autoencoder(tmp_path, images, config, sampler):
    config.model.name, config.model.code_sampler = "ae", sampler
    run = untrained(config, images, tmp_path / "run")
    if sampler != "none":
        scale = np.diag([2.0, 30.0, 0.1]).astype(np.float32)
        run.params["prior"] = {"mean": np.float32([1, 0, 0]), "scale": scale}
    arrays, page, _ = of_run(run, images, NO_RATE)
    text = Reader(explorer_html(page)).text
    codes = run.codes(images, "test").mean
    order = np.argsort(-codes.var(0))
    assert arrays["units"].tolist() == order.tolist() and arrays["num_active"] == 3
    assert "by the variance of its codes" in text and "not active" not in text
    if sampler == "none":
        assert "Draw from" not in text and "quantile of the codes of test examples" in text
        low, high = np.quantile(codes, (0.001, 0.999), axis=0)
        np.testing.assert_allclose(arrays["low"], low, atol=np.max(high - low) / 40)
        assert np.all(arrays["low"] <= low) and np.all(arrays["high"] >= high)
    else:
        assert "Draw from the Gaussian fitted to training codes" in text
        assert arrays["samples"].shape == (explorer.NUM_SAMPLES, 3)
        np.testing.assert_allclose(arrays["high"] - arrays["low"], 6.2 * np.diag(scale), rtol=0.15)
        np.testing.assert_allclose(arrays["samples"].std(0), np.diag(scale), rtol=0.15)


@pytest.mark.quick
def test_of_a_prior_other_than_the_standard_normal(tmp_path, images, config):
    run = untrained(config, images, tmp_path / "run")

    def sample_prior(_params, rng, _hypers, _condition=None):
        return jnp.float32([10, 0, -4]) + jnp.float32([1, 20, 0.1]) * jax.random.normal(rng, (3,))

    run.model = run.model._replace(standard_normal=False, sample_prior=sample_prior)
    arrays, page, script = of_run(run, images)
    assert arrays["units"].tolist() == [2, 0, 1] and arrays["by"] == "variance"
    np.testing.assert_allclose(arrays["low"], [6.9, -62, -4.31], rtol=0.15)
    np.testing.assert_allclose(arrays["high"], [13.1, 62, -3.69], rtol=0.15)
    np.testing.assert_allclose(arrays["samples"].mean(0), [10, 0, -4], atol=5)
    assert "Draw from the prior" in explorer_html(page) and '"samples": null' not in script


def test_a_run_and_the_best_of_a_sweep_have_it_in_their_reports(
    tmp_path, images, config, monkeypatch
):
    monkeypatch.setattr(finish, "draw_pictures", lambda *_: None)
    config.train.num_epochs = 1.0
    vae_jax.train(config, tmp_path / "run", dataset=images)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert explorer.FILE in results["files"]
    text = (tmp_path / "run" / "report.html").read_text()
    reader = Reader(text)
    assert_self_contained(reader)
    assert "Latent explorer" in reader.text
    network = vae_jax.load(tmp_path / "run").params["decoder"]["network"]
    kernel = np.asarray(network["Dense_0"]["kernel"]).astype("<f2")
    assert base64.b64encode(kernel.tobytes()).decode() in text
    assert vae_jax.report(tmp_path / "run").read_text() == text
    config.sweep.likelihood_name = ("gaussian", "continuous_bernoulli")
    config.data.binarize = "none"
    config.train.num_epochs = 0.5
    vae_jax.train(config, tmp_path / "sweep", dataset=images)
    results = json.loads((tmp_path / "sweep" / "results.json").read_text())
    best = results["best_member"]
    file = f"members/{best}/{explorer.FILE}"
    assert (tmp_path / "sweep" / file).exists() and file in results["files"]
    text = (tmp_path / "sweep" / "report.html").read_text()
    name = results["members"][best]["swept"]["likelihood.name"]
    assert ("Math.expm1(-l)" in text) == (name == "continuous_bernoulli")


# --- in a browser

# Compares functions in JavaScript, given as {name: [function, inputs]}.
FUNCTIONS = """<script>
document.title = "";
const found = Object.fromEntries(Object.entries(CASES).map(
  ([name, [of, inputs]]) => [name, inputs.map(of)]));
addEventListener("load", () => setTimeout(() => {
  document.title = JSON.stringify({found});
}, 100));
</script></body>"""


@pytest.mark.slow  # needs a browser
def test_functions_in_javascript_are_those_of_the_library(tmp_path):
    assert layers.JAVASCRIPT.keys() == layers.ACTIVATIONS.keys()
    x = np.concatenate([np.linspace(-30, 30, 61), np.linspace(-0.2, 0.2, 9)]).astype(np.float32)
    cases, expected = [], {}
    for name, text in layers.JAVASCRIPT.items():
        cases.append(f'"{name}": [x => {text}, {x.tolist()}]')
        expected[name] = layers.ACTIVATIONS[name](x)
    section = KNOWN.default().likelihood.unlock()
    for name, part in LIKELIHOODS.items():
        for field, about in part.fields.items():
            section[field] = about.default
        likelihood = part.make(section)
        channels = likelihood.start(jnp.full(3, 0.3)).shape[1]
        out = 3 * RNG.normal(size=(40, channels)).astype(np.float32)
        out[:12, 0] = [-300, -30, -1, -0.11, -0.09, -1e-3, 0, 1e-3, 0.09, 0.11, 30, 300]
        listed = ", ".join(f"Float32Array.of({', '.join(map(str, row))})" for row in out)
        cases.append(f'"{name}": [{likelihood.javascript}, [{listed}]]')
        expected[name] = likelihood.mean({}, jnp.asarray(out))
    body = FUNCTIONS.replace("CASES", "({" + ",\n".join(cases) + "})")
    says, console, _ = browse(tmp_path, f"<html><body>{body}</html>", probe="")
    assert not console
    for name, values in expected.items():
        np.testing.assert_allclose(says["found"][name], values, rtol=1e-4, atol=1e-5, err_msg=name)


# What a reader does with the explorer, and what the page decodes then.
PLAY = """<script>
addEventListener("load", () => setTimeout(() => {
  const find = name => document.querySelector(`[data-is=${name}]`);
  const sliders = [...document.querySelectorAll("[data-unit]")];
  const pixels = name => {
    const copy = document.createElement("canvas"), { width, height } = find(name);
    copy.width = width;
    copy.height = height;
    const pen = copy.getContext("2d", { willReadFrequently: true });
    pen.drawImage(find(name), 0, 0);
    const { data } = pen.getImageData(0, 0, width, height);
    return width < 100 ? [...data] : { width, height,
      dark: data.filter((value, i) => i % 4 === 0 && value < 100).length };
  };
  const input = (element, value) => {
    element.value = value;
    element.dispatchEvent(new Event("input"));
  };
  const state = () => ({ z: [...latents.z], x: [...latents.decode(latents.z)],
    canvas: pixels("decoded"), caption: find("decoded").nextElementSibling.textContent,
    example: getComputedStyle(find("example")).visibility,
    numbers: sliders.map(s => s.nextElementSibling.textContent),
    at: sliders.map(s => s.valueAsNumber), units: sliders.map(s => +s.dataset.unit) });
  const states = { opened: state() };
  input(find("start"), 3);
  states.started = state();
  states.shown = pixels("example");
  input(sliders[0], 1.5);
  input(sliders.at(-1), -2);
  states.moved = state();
  if (find("draw")) {
    find("draw").click();
    states.drawn = state();
    find("draw").click();
    states.again = state();
  }
  find("reset").click();
  states.reset = state();
  if (find("plane")) {
    const box = find("plane").getBoundingClientRect();
    const at = { clientX: box.left + 0.75 * box.width, clientY: box.top + 0.25 * box.height };
    find("plane").onpointermove(new PointerEvent("pointermove", { ...at, buttons: 1 }));
    states.pointed = state();
    find("plane").dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft" }));
    states.stepped = state();
    states.plane = pixels("plane");
  }
  const root = document.documentElement;
  document.title = JSON.stringify({ states, wide: root.scrollWidth > innerWidth,
    loaded: performance.getEntriesByType("resource").map(entry => entry.name)
      .filter(name => !name.startsWith("data:")) });
}, 100));
</script></body>"""


def play(tmp_path, run, dataset, width=1000, test=TEST):
    """(what the page says after PLAY, the arrays of explorer.npz)."""
    arrays, page, script = of_run(run, dataset, test)
    main = markup.tag("main", *page)
    text = markup.document("explorer", main, style=explorer.CSS, script=script)
    says, console, _ = browse(tmp_path, text, width=width, probe=PLAY)
    assert not console and not says["loaded"] and not says["asked"] and not says["wide"]
    return says["states"], arrays


def assert_decodes_as_the_library(states, run, arrays):
    """To less than a grey level, wherever the page was; and the canvas shows it."""
    low, high = arrays["look"]
    for name, state in states.items():
        if not (isinstance(state, dict) and "z" in state):
            continue  # pixels
        z = np.float32(state["z"])
        expected = np.asarray(run.decode(z[None]))[0]
        found = np.reshape(state["x"], expected.shape)
        share, wanted = ((np.clip(x, low, high) - low) / (high - low) for x in (found, expected))
        assert np.abs(share - wanted).max() < 1 / 255, name
        for number, unit, at in zip(state["numbers"], state["units"], state["at"], strict=True):
            assert number == f"{z[unit]:.2f}" or abs(float(number) - z[unit]) < 0.006
            clipped = np.clip(z[unit], arrays["low"][unit], arrays["high"][unit])
            assert abs(at - clipped) <= 0.51 * arrays["step"][unit] + 1e-6
        if not arrays["curve"]:
            assert_shown(state["canvas"], wanted, arrays)


def assert_shown(canvas, share, arrays):
    """The pixels of a canvas are the image `share` [H, W, C] of values in [0, 1]."""
    colour = share.shape[-1] == 3
    if not colour:
        share = np.concatenate(list(np.moveaxis(share, -1, 0)), axis=1)[..., None]
        share = 1 - share if arrays["ink"] else share
    pixels = np.reshape(canvas, (*share.shape[:2], 4))
    assert np.all(pixels[..., 3] == 255)
    assert np.abs(pixels[..., :3] - 255 * share).max() < 1.51  # rounded, and half a grey level off


def assert_buttons_work(states, arrays):
    started, moved, reset = states["started"], states["moved"], states["reset"]
    np.testing.assert_allclose(states["opened"]["z"], arrays["codes"][0], rtol=1e-6)
    np.testing.assert_allclose(started["z"], arrays["codes"][3], rtol=1e-6)
    first, *_, last = arrays["units"]
    expected = arrays["codes"][3].copy()
    expected[[first, last]] = [1.5, -2]
    np.testing.assert_allclose(moved["z"], expected, atol=0.51 * np.max(arrays["step"]))
    assert np.any(np.array(moved["x"]) != started["x"])
    assert started["example"] == moved["example"] == "visible" and reset["example"] == "hidden"
    assert started["caption"] == "E[x|z], its reconstruction" and moved["caption"] == "E[x|z]"
    assert not np.any(reset["z"])


@pytest.mark.slow  # needs a browser
@pytest.mark.parametrize("width", [1000, 500])
def test_a_browser_decodes_gray_images_as_the_library(tmp_path, images, config, width):
    config.hypers.latent_dim = 5
    run = scaled_up(untrained(config, images, tmp_path / "run"))
    test = {"rate": 1.0, "unit_rate": [1, 2, 3, 5, 4], "unit_activity": [1, 1, 0, 1, 1]}
    states, arrays = play(tmp_path, run, images, width, test)
    assert_decodes_as_the_library(states, run, arrays)
    assert_buttons_work(states, arrays)
    assert states["drawn"]["z"] != states["again"]["z"]
    shown = arrays["examples"][3].reshape(6, 5, 1) / 255
    assert_shown(states["shown"], shown, arrays)
    assert "plane" not in states


@pytest.mark.slow  # needs a browser
def test_a_browser_decodes_colour_images_with_a_plane_as_the_library(tmp_path, config):
    dataset, config.hypers.latent_dim = colours(), 2
    config.likelihood.name, config.data.binarize = "discretized_logistic", "none"
    config.network.activation = "gelu"
    run = scaled_up(untrained(config, dataset, tmp_path / "run"))
    test = {"rate": 1.0, "unit_rate": [1, 2], "unit_activity": [1, 1]}
    states, arrays = play(tmp_path, run, dataset, test=test)
    assert_decodes_as_the_library(states, run, arrays)
    assert_buttons_work(states, arrays)
    np.testing.assert_allclose(states["pointed"]["z"], [1.55, 1.55], atol=0.02)
    np.testing.assert_allclose(
        np.subtract(states["stepped"]["z"], states["pointed"]["z"]), [-6.2 / 50, 0], atol=1e-5
    )
    assert states["plane"]["height"] == 576 and 0 < states["plane"]["dark"] < 720 * 576


@pytest.mark.slow  # needs a browser
def test_a_browser_decodes_vectors_of_an_autoencoder_as_the_library(tmp_path, config):
    dataset = vectors()
    config.likelihood.name, config.data.binarize = "gaussian", "none"
    config.model.name, config.model.code_sampler = "ae", "gaussian_fit"
    run = scaled_up(untrained(config, dataset, tmp_path / "run"), 1.5)
    scale = np.diag([2.0, 3.0, 4.0]).astype(np.float32)
    run.params["prior"] = {"mean": np.float32([1, 0, 0]), "scale": scale}
    states, arrays = play(tmp_path, run, dataset, test=NO_RATE)
    assert_decodes_as_the_library(states, run, arrays)
    assert_buttons_work(states, arrays)
    assert np.any(np.all(np.isclose(arrays["samples"], states["drawn"]["z"]), axis=1))
    assert 1000 < states["moved"]["canvas"]["dark"] < 8000  # a line on white paper
