"""The latent explorer of report.html: a decoder of fully connected layers that runs in the page.

`write` leaves what it needs in explorer.npz beside the pictures, or the reason why there is none;
`elements` and `script` make the page's part of that file. explorer.js is what the browser does. The
functions in JavaScript are those of the parts (`Likelihood.javascript`, `layers.JAVASCRIPT`), never
of the file: a file is data.
"""

import base64
import json
from pathlib import Path
from statistics import NormalDist
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vae_jax import config as settings
from vae_jax.config import Catalogue
from vae_jax.data import Dataset
from vae_jax.errors import UserError
from vae_jax.metrics.active_units import ACTIVE
from vae_jax.networks import layers
from vae_jax.plots.member import positions_of, style_of
from vae_jax.run import Run
from vae_jax.types import Likelihood
from vae_jax.workdir import files
from vae_jax.workdir.markup import tag

FILE = "explorer.npz"
MOST_WEIGHTS = 4_000_000  # of a decoder; 11 MB of the page
NUM_EXAMPLES, EXAMPLE_BYTES = 100, 400_000  # test examples; fewer of large ones
NUM_CODES = 1000  # of test examples, for the range of a unit
NUM_SAMPLES, NUM_FOR_RANGE = 256, 4096  # of a prior other than N(0, I): in the page; for ranges
TAIL = 0.001  # of the prior, or of the codes, beyond either end of a slider
GREY = 255  # levels of grey between the darkest and the lightest value that is shown

CSS = """
.explorer { display: grid; grid-template-columns: minmax(0, 21rem) minmax(0, 1fr); \
gap: 1rem 2.5rem; align-items: start; margin: 1rem 0 2rem; }
.explorer .view { position: sticky; top: 0; padding: .75rem 0; background: var(--paper); \
z-index: 1; }
.explorer .pair { display: flex; gap: .75rem; }
.explorer figure { margin: 0; flex: 1; min-width: 0; }
.explorer .pair figure { max-width: 16rem; }
.explorer figcaption { margin-top: .3rem; font-size: .8125rem; line-height: 1.35; }
.explorer canvas { display: block; width: 100%; background: #fff; image-rendering: pixelated; \
border: 1px solid var(--line); border-radius: 4px; }
.explorer .plane { margin-top: .75rem; max-width: 30rem; }
.explorer .plane canvas { touch-action: none; cursor: crosshair; image-rendering: auto; }
.explorer .buttons { display: flex; flex-wrap: wrap; gap: .5rem; margin-top: .75rem; }
.explorer button { font: inherit; font-size: .875rem; padding: .3rem .8rem; color: var(--ink); \
background: var(--wash); border: 1px solid var(--line); border-radius: 4px; cursor: pointer; }
.explorer button:hover { border-color: var(--accent); }
.explorer :is(button, input, canvas, summary):focus-visible { outline: 2px solid var(--accent); \
outline-offset: 1px; }
.explorer input { --thumb: 14px; appearance: none; width: 100%; min-width: 0; height: 4px; \
margin: .5rem 0; border-radius: 2px; background: var(--line); cursor: pointer; }
.explorer input::-webkit-slider-thumb { appearance: none; width: var(--thumb); \
height: var(--thumb); border-radius: 50%; background: var(--accent); }
.explorer input::-moz-range-thumb { width: var(--thumb); height: var(--thumb); border: 0; \
border-radius: 50%; background: var(--accent); }
.explorer .unit input { --at: calc(var(--thumb) / 2 + var(--zero) * (100% - var(--thumb))); \
background: linear-gradient(to right, var(--line) calc(var(--at) - 1px), \
var(--ink) calc(var(--at) - 1px) calc(var(--at) + 1px), var(--line) calc(var(--at) + 1px)); }
.explorer label { display: block; font-size: .875rem; margin-top: .6rem; }
.explorer .unit { display: grid; grid-template-columns: 3.4rem 5.6rem minmax(4rem, 1fr) 3.4rem; \
gap: .6rem; align-items: center; margin: 0; padding: .1rem 0; font-variant-numeric: tabular-nums; }
.explorer .unit small { color: var(--dim); font-size: .8125rem; }
.explorer .unit span:last-child { text-align: right; }
@media (max-width: 40rem) { .explorer { grid-template-columns: minmax(0, 1fr); }
  .explorer .pair figure { max-width: 8.5rem; }
  .explorer .view { border-bottom: 1px solid var(--line); }
  .explorer .unit { grid-template-columns: 2.6rem 4.4rem minmax(4rem, 1fr) 2.8rem; gap: .3rem; } }
@media (pointer: coarse) { .explorer input { --thumb: 22px; }
  .explorer .unit { padding: .4rem 0; } }
"""


# --- the file


def write(run: Run, dataset: Dataset, folder: Path, entry: dict) -> None:
    """Writes explorer.npz in `folder`; without eval.explorer it is removed.

    Args:
      entry: the member's in results.json.
    """
    path = folder / FILE
    settings_of: Any = run.config.eval
    if not settings_of.explorer:
        path.unlink(missing_ok=True)
        return
    reason, likelihood = _obstacle(run), run.likelihood
    if reason or likelihood is None:
        files.write_arrays(path, {"why": np.array(reason)})
        return
    positions = _example_positions(dataset, run.example_shape)
    others = np.setdiff1d(positions_of(dataset, NUM_CODES), positions)
    try:
        means = run.codes(dataset, "test", np.concatenate([positions, others])).mean
    except UserError as error:  # a posterior without a mean
        files.write_arrays(path, {"why": np.array(str(error))})
        return
    arrays = _units(run, means, entry["test"]) | _look(run, dataset)
    arrays |= {"positions": positions, "codes": means[: len(positions)]}
    shown = run.as_evaluated(dataset, "test", positions)
    low, high = arrays["look"]
    share = np.clip((np.asarray(shown.x) - low) / (high - low), 0, 1)
    arrays["examples"] = np.round(GREY * share).astype(np.uint8)
    difference = np.inf
    for dtype in (np.float16, np.float32):
        if not difference < 1:
            arrays |= _decoder(run, dtype)
            difference = _difference(run, likelihood, arrays, shown.condition)
    if not difference < 1:
        reason = f"what the page would decode differs by {difference:.3g} grey levels of {GREY}"
        arrays = {"why": np.array(reason)}
    files.write_arrays(path, arrays | {"difference": np.array(difference)})


def _obstacle(run: Run) -> str:
    """Why the decoder cannot run in a page, or ""."""
    if isinstance(run.latent_dim, dict):
        return "its codes have several layers, where the page knows one"
    likelihood, perceptron = run.likelihood, run.model.perceptron
    name = run.config.network.name
    if perceptron is None:
        return (
            f"only decoders of fully connected layers run in a page, and network {name!r} in this "
            "model is none, or does not say so"
        )
    if likelihood is None or not likelihood.javascript:
        return (
            f"likelihood {run.config.likelihood.name!r} does not say in JavaScript what its mean "
            "is (Likelihood.javascript)"
        )
    if perceptron.activation not in layers.JAVASCRIPT:
        return f"the page does not know the activation {perceptron.activation!r}"
    num = sum(kernel.size for kernel, _ in perceptron.layers(run.params))
    if num > MOST_WEIGHTS:
        return f"its decoder has {num:,} weights, more than the {MOST_WEIGHTS:,} that fit in a page"
    return ""


def _example_positions(dataset: Dataset, shape: tuple[int, ...]) -> np.ndarray:
    """Which test examples are in the page: first those of reconstructions.png."""
    first, spread = positions_of(dataset), positions_of(dataset, NUM_EXAMPLES)
    positions = np.concatenate([first, spread[~np.isin(spread, first)]])
    return positions[: min(NUM_EXAMPLES, max(5, EXAMPLE_BYTES // int(np.prod(shape))))]


def _decoder(run: Run, dtype: Any) -> dict[str, np.ndarray]:
    """Its weights as `dtype`, its biases as float32; what turns its output into E[x|z]."""
    perceptron, likelihood = run.model.perceptron, run.likelihood
    assert perceptron is not None and likelihood is not None  # see `_obstacle`
    arrays = {"activation": np.array(perceptron.activation)}
    with np.errstate(over="ignore"):  # `_difference` looks for it
        for i, (kernel, bias) in enumerate(perceptron.layers(run.params)):
            arrays[f"kernel_{i}"] = np.asarray(kernel).astype(dtype)
            arrays[f"bias_{i}"] = np.asarray(bias, np.float32)
    if likelihood.units is not None:
        shift, scale = likelihood.units
        arrays |= {"shift": np.asarray(shift), "scale": np.asarray(scale)}
    return arrays


def _units(run: Run, means: np.ndarray, test: dict) -> dict[str, np.ndarray]:
    """The units in their order, how many of them are active, and their ranges.

    They are ordered as in traversal.png: by KL where the prior is N(0, I), else by the variance of
    the codes `means` [n, Z].
    """
    activity = test.get("unit_activity")
    known = activity is not None
    activity = np.array(activity if known else means.var(axis=0, dtype=np.float64), float)
    by_rate = run.model.standard_normal and test.get("unit_rate") is not None
    score = np.array(test["unit_rate"], float) if by_rate else activity
    order = np.argsort(-score, kind="stable")
    # Of a code without a prior no variance is small: all units count.
    is_active = activity > ACTIVE if known else np.ones(len(activity), bool)
    order = np.concatenate([order[is_active[order]], order[~is_active[order]]])
    found = {"units": order, "num_active": np.array(is_active.sum()), "score": score}
    found["by"] = np.array("KL" if by_rate else "variance")
    found["prior"] = np.array(_prior(run))
    if run.model.standard_normal:
        reach = -NormalDist().inv_cdf(TAIL)
        low, high = np.full(len(order), -reach), np.full(len(order), reach)
    elif run.model.sample_prior is not None:
        samples = _prior_samples(run)
        found["samples"] = samples[:NUM_SAMPLES]
        low, high = np.quantile(samples, (TAIL, 1 - TAIL), axis=0)
    else:
        low, high = np.quantile(means, (TAIL, 1 - TAIL), axis=0)
    low, high, step = _on_a_grid(low, high)
    return found | {"low": low, "high": high, "step": step}


def _prior(run: Run) -> str:
    """What codes are drawn from, in words; "" where there is nothing to draw from."""
    if run.model.sample_prior is None:
        return ""
    return "the prior" if run.model.fit_prior is None else "the Gaussian fitted to training codes"


def _on_a_grid(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ranges of sliders, outwards to multiples of a round step, and that step."""
    step = 10.0 ** np.floor(np.log10(np.maximum(high - low, 1e-6) / 100))
    low, high = step * np.floor(low / step), step * np.ceil(high / step)
    return low.round(9), np.maximum(high, low + step).round(9), step.round(9)


def _prior_samples(run: Run) -> np.ndarray:
    """z ~ p(z) with the noise of eval.seed  [NUM_FOR_RANGE, Z]."""
    seed: Any = run.config.eval.seed
    keys = jax.random.split(jax.random.key(seed), NUM_FOR_RANGE)
    draw = jax.vmap(lambda key: run.model.sample_prior(run.params, key, run.hypers))
    return np.asarray(draw(keys), np.float32)


def _look(run: Run, dataset: Dataset) -> dict[str, np.ndarray]:
    """How an example is drawn: the range of its values, and whether it is a curve."""
    style = style_of(run, dataset)
    look = style.look
    picture = style.show(np.full(run.example_shape, look.low), None)
    return {
        "shape": np.array(run.example_shape),
        "look": np.array([look.low, look.high]),
        "ink": np.array(look.ink),
        "curve": np.array(picture.pixels is None),
    }


def decode(arrays: dict[str, np.ndarray], z: np.ndarray, likelihood: Likelihood) -> np.ndarray:
    """E[x|z] of codes z [n, Z] as the page computes it from explorer.npz, [n, D].

    Args:
      likelihood: that of the run, in the data's own units.
    """
    activation = layers.ACTIVATIONS[str(arrays["activation"])]
    last = max(int(name.removeprefix("bias_")) for name in arrays if name.startswith("bias_"))
    h = np.asarray(z, np.float32)
    for i in range(last + 1):
        h = h @ arrays[f"kernel_{i}"].astype(np.float32).T + arrays[f"bias_{i}"]
        h = np.asarray(activation(h)) if i < last else h
    out = jnp.asarray(h.reshape(len(h), int(np.prod(arrays["shape"])), -1))
    return np.asarray(jax.vmap(lambda one: likelihood.mean({}, one))(out))


def _difference(
    run: Run, likelihood: Likelihood, arrays: dict[str, np.ndarray], condition
) -> float:
    """The largest difference of `decode` from the library's, in grey levels.

    Of the codes of the test examples, of these with one unit moved somewhere within its range, and
    of draws from the prior.
    """
    kernels = [array for name, array in arrays.items() if name.startswith("kernel_")]
    if not all(np.isfinite(kernel).all() for kernel in kernels):
        return np.inf  # 16 bits do not hold them
    rng, codes = np.random.default_rng(0), arrays["codes"]
    moved, unit = codes.copy(), np.resize(arrays["units"], len(codes))
    moved[np.arange(len(codes)), unit] = rng.uniform(arrays["low"][unit], arrays["high"][unit])
    looked_at = [codes, moved]
    if run.model.sample_prior is not None:
        samples = arrays.get("samples", rng.normal(size=codes.shape).astype(np.float32))
        looked_at.append(np.resize(samples, codes.shape))
    low, high = arrays["look"]
    largest = []
    for z in looked_at:
        ours = decode(arrays, z, likelihood)
        theirs = np.asarray(run.decode(z, condition)).reshape(ours.shape)
        # Beyond the range that is shown there is nothing to see.
        ours, theirs = np.clip(ours, low, high), np.clip(theirs, low, high)
        largest.append(np.max(np.abs(ours - theirs)))
    return np.max(largest) / (high - low) * GREY


# --- the page


def elements(folder: Path, config: ConfigDict, catalogue: Catalogue) -> tuple[list[tuple], str]:
    """(the part of the page that explorer.npz in `folder` gives, its script).

    Args:
      config: of the member as a single run.

    Raises:
      UserError: the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return [], ""
    arrays = files.read_arrays(path)
    if not arrays:
        raise UserError(f"{path} is damaged: --mode=evaluate writes it anew")
    if "why" in arrays:
        text = f"There is no latent explorer: {arrays['why']}."
        return [tag("p", text, class_="dim")], ""
    about = tag("p", _about(arrays), class_="dim")
    explorer = tag("div", _view(arrays), _sliders(arrays), class_="explorer", id="explorer")
    script_missing = tag("noscript", tag("p", "It needs JavaScript.", class_="alarm"))
    return [tag("h2", "Latent explorer"), about, script_missing, explorer], _script(
        arrays, config, catalogue
    )


def _about(arrays: dict[str, np.ndarray]) -> str:
    of = str(arrays["prior"]) or "the codes of test examples"
    order = "KL, nats" if str(arrays["by"]) == "KL" else "the variance of its codes"
    low, high = arrays["look"]
    curves = f" Curves run from {low:.4g} below to {high:.4g} above." if arrays["curve"] else ""
    return (
        "The decoder itself runs in this page, offline: move a unit of the code z and see E[x|z]. "
        f"Units are ordered by {order}; each slider runs from the {TAIL:.1%} to the "
        f"{1 - TAIL:.1%} quantile of {of}, with a mark at 0. With weights of "
        f"{8 * arrays['kernel_0'].itemsize} bits, the largest difference found from the library's "
        f"own decoder is {float(arrays['difference']):.2g} grey levels of {GREY}.{curves}"
    )


def _view(arrays: dict[str, np.ndarray]) -> tuple:
    """What is decoded, the test example beside it, and the buttons."""
    parts = [
        tag("div", _canvas("decoded", "E[x|z]"), _canvas("example", ""), class_="pair"),
        tag(
            "label",
            "Start from a test example",
            tag("input", type="range", min=0, max=len(arrays["codes"]) - 1, data_is="start"),
        ),
    ]
    buttons = [tag("button", "Reset to 0", type="button", data_is="reset")]
    if str(arrays["prior"]):
        text = f"Draw from {arrays['prior']}"
        buttons.insert(0, tag("button", text, type="button", data_is="draw"))
    parts.append(tag("div", *buttons, class_="buttons"))
    return tag("div", *parts, class_="view")


def _canvas(name: str, caption: str, **attributes) -> tuple:
    canvas = tag("canvas", role="img", aria_label=caption or name, data_is=name, **attributes)
    return tag("figure", canvas, tag("figcaption", caption))


def _sliders(arrays: dict[str, np.ndarray]) -> tuple:
    """A slider for each unit, those of inactive ones folded away; the plane of a 2-D code."""
    units, num = arrays["units"], int(arrays["num_active"])
    rows = [_slider(arrays, unit) for unit in units]
    shown, others = (rows[:num], rows[num:]) if num else ([], rows)
    if others:
        title = f"The other {len(others)}, which are not active" if num else "No unit is active"
        shown.append(tag("details", tag("summary", title), *others, open=None if num else ""))
    if len(units) == 2:
        caption = "The plane of the code, z[0] to the right, z[1] upwards: click, or drag the mark"
        shown.append(tag("div", _canvas("plane", caption, tabindex=0), class_="plane"))
    return tag("div", *shown)


def _slider(arrays: dict[str, np.ndarray], unit: int) -> tuple:
    low, high, step = (f"{arrays[name][unit]:.9g}" for name in ("low", "high", "step"))
    by = "KL" if str(arrays["by"]) == "KL" else "var."
    zero = -arrays["low"][unit] / (arrays["high"][unit] - arrays["low"][unit])
    of_slider = {"type": "range", "min": low, "max": high, "step": step}
    return tag(
        "label",
        tag("span", f"z[{unit}]"),
        tag("small", f"{by} {arrays['score'][unit]:.3g}"),
        tag("input", **of_slider, data_unit=int(unit), style=f"--zero: {zero:.4f}"),
        tag("span", "0"),
        class_="unit",
    )


def _script(arrays: dict[str, np.ndarray], config: ConfigDict, catalogue: Catalogue) -> str:
    """explorer.js, and the call that starts it."""
    likelihood = catalogue.chosen("likelihood", settings.flatten(config)).make(config.likelihood)
    activation = layers.JAVASCRIPT[str(arrays["activation"])]
    num = sum(name.startswith("kernel_") for name in arrays)
    half = arrays["kernel_0"].dtype == np.float16
    data = {
        "half": half,
        "kernels": [_base64(arrays[f"kernel_{i}"], "<f2" if half else "<f4") for i in range(num)],
        "biases": [_base64(arrays[f"bias_{i}"], "<f4") for i in range(num)],
        "codes": _base64(arrays["codes"], "<f4"),
        "examples": _base64(arrays["examples"], "u1"),
        "positions": arrays["positions"].tolist(),
        "width": len(arrays["units"]),
        "shape": arrays["shape"].tolist(),
        "look": arrays["look"].tolist(),
        "ink": bool(arrays["ink"]),
        "curve": bool(arrays["curve"]),
    }
    for name in ("shift", "scale", "samples"):
        data[name] = _base64(arrays[name], "<f4") if name in arrays else None
    functions = f"activation: x => {activation}, mean: {likelihood.javascript}"
    source = Path(__file__).with_name("explorer.js").read_text(encoding="utf-8")
    return f"{source}\nconst latents = explorer({json.dumps(data)}, {{{functions}}});\n"


def _base64(array: np.ndarray, dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, np.dtype(dtype)).tobytes()).decode()
