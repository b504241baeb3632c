"""The latent space under sliders, in a notebook."""

import io
import itertools
import tempfile
from pathlib import Path

import jax
import numpy as np

from vae_jax.data.kinds import KINDS, kind_of
from vae_jax.data.kinds.kind import look_at
from vae_jax.errors import UserError
from vae_jax.models.draws import posterior_means
from vae_jax.plots import base, examples
from vae_jax.plots.examples import Layout, Style
from vae_jax.plots.scene import TAIL, layers
from vae_jax.run import Run

REACH = 3.0  # standard deviations of the prior
DRAWS = 256  # of the prior, from which the range of its units is read where it is not N(0, I)
SIDE = 280  # pixels of the image beside the sliders
COLUMNS = 9  # of the table that stands in for sliders


class Picture:
    """A PNG file's content, which a notebook shows."""

    def __init__(self, content: bytes):
        self.content = content

    def _repr_png_(self) -> bytes:
        return self.content


class _Space:
    """A run's latent space: where it begins, its units, how a code is drawn."""

    def __init__(self, run: Run, x=None, condition=None):
        self.run, self.condition = run, condition
        means = None
        if x is not None:
            means = jax.tree.map(np.asarray, posterior_means(run.encode(x, condition)))
        self.from_prior = _draws(run)
        self.draws = means if self.from_prior is None else self.from_prior
        if self.draws is None:
            raise UserError("this model has no prior to draw from: give some examples, as x=")
        self.name = next(iter(layers(self.draws)))  # of the layer nearest to x
        start = jax.tree.map(lambda leaf: np.zeros_like(leaf[0]), self.draws)
        if not run.model.standard_normal:
            start = jax.tree.map(lambda leaf: leaf.mean(0), self.draws)
        self.start = start if means is None else _row(means, 0)
        look, shape = look_at(self.decode(self.draws)), run.example_shape
        self.style = Style(KINDS[kind_of(shape)], shape, look)

    def decode(self, z) -> np.ndarray:
        num = len(_first(z))
        given = self.condition
        if given is not None:
            given = {name: np.repeat(np.asarray(v)[:1], num, 0) for name, v in given.items()}
        return np.asarray(self.run.decode(z, given))

    def decode_one(self, z) -> np.ndarray:
        return self.decode(jax.tree.map(lambda leaf: leaf[None], z))[0]

    def units(self, num: int) -> list[int]:
        """The most active units, by the variance of their posterior means."""
        entry = self.run.entry() or {}
        activity = (entry.get("test") or {}).get("unit_activity")
        if activity is not None:
            activity = np.array(layers(activity)[self.name], float)
        else:
            activity = _first(self.draws).var(0)
        return np.argsort(-activity, kind="stable")[:num].tolist()

    def reach(self, unit: int) -> tuple[float, float]:
        """The range of a unit."""
        if self.run.model.standard_normal:
            return -REACH, REACH
        low, high = np.quantile(_first(self.draws)[:, unit], (TAIL, 1 - TAIL))
        return float(low), float(high) if high > low else float(low) + 1.0

    def moved(self, z, unit: int, value: float):
        """The code z with another value of a unit."""
        first = np.array(layers(z)[self.name])
        first[unit] = value
        return z | {self.name: first} if isinstance(z, dict) else first

    def png(self, z) -> bytes:
        """The picture of E[x|z]."""
        size, shape = None, self.run.example_shape
        if len(shape) == 3:  # an image, magnified by a whole number
            zoom = max(1, round(SIDE / max(shape[:2])))
            size = zoom * shape[0], zoom * shape[1]
        shown = self.style.show(self.decode_one(z), size)
        if shown.pixels is None:
            figure, ((axis,),) = base.figure(4.0, 2.5)
            axis.plot(*np.asarray(shown.curve).T, linewidth=1.0)
            axis.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1))
            return base.png(figure)
        from PIL import Image

        content = io.BytesIO()
        Image.fromarray((255 * shown.pixels).round().astype(np.uint8)).save(content, "PNG")
        return content.getvalue()


def explore(run: Run, x=None, num_units: int = 8, condition=None):
    """Sliders for the most active latent units beside E[x|z]; in a notebook, the last line of a
    cell.

    The sliders begin at the code of the first of the examples `x`, else at the prior's mean, and
    the button draws a code from the prior. Where ipywidgets is not installed it says so, and gives
    a table instead: a row per unit, whose value runs over its range.

    Args:
      x: examples [B, *example_shape]; needed of a model without a prior.
      num_units: how many units have a slider.
      condition: labels that the model is given, as in `Run.decode`; the first counts.

    Raises:
      UserError: the model has no prior, and no examples are given.
    """
    space = _Space(run, x, condition)
    try:
        import ipywidgets
    except ImportError:
        print("ipywidgets is not installed (pip install ipywidgets): no sliders, but a table")
        return _table(space, num_units)
    return _sliders(space, num_units, ipywidgets)


def _sliders(space: _Space, num_units: int, widgets):
    image = widgets.Image(value=space.png(space.start), format="png")
    state = {"z": space.start, "silent": False}
    sliders = {}

    def change(unit: int, value: float) -> None:
        state["z"] = space.moved(state["z"], unit, value)
        if not state["silent"]:
            image.value = space.png(state["z"])

    for unit in space.units(num_units):
        low, high = space.reach(unit)
        value = float(np.clip(layers(space.start)[space.name][unit], low, high))
        how = {"min": low, "max": high, "step": (high - low) / 60, "readout_format": ".1f"}
        label = f"{space.name or 'z'}[{unit}]"
        slider = widgets.FloatSlider(value=value, description=label, **how)
        slider.observe(lambda event, unit=unit: change(unit, event["new"]), names="value")
        sliders[unit] = slider

    def go_to(z) -> None:
        """Puts the sliders to a code, and draws it once."""
        state.update(z=z, silent=True)
        for unit, slider in sliders.items():
            slider.value = float(np.clip(layers(z)[space.name][unit], slider.min, slider.max))
        state.update(z=z, silent=False)
        image.value = space.png(z)

    buttons = [_button(widgets, "back to the start", lambda: go_to(space.start))]
    if space.from_prior is not None:
        numbers = itertools.cycle(range(DRAWS))

        def draw() -> None:
            go_to(_row(space.from_prior, next(numbers)))

        buttons.insert(0, _button(widgets, "draw z ~ p(z)", draw))
    left = widgets.VBox([*sliders.values(), widgets.HBox(buttons)])
    return widgets.HBox([left, image])


def _button(widgets, text: str, action):
    button = widgets.Button(description=text)
    button.on_click(lambda _button: action())
    return button


def _table(space: _Space, num_units: int) -> Picture:
    units = space.units(num_units)
    rows = []
    for unit in units:
        values = np.linspace(*space.reach(unit), COLUMNS)
        rows.append(np.stack([space.decode_one(space.moved(space.start, unit, v)) for v in values]))
    labels = [f"{space.name or 'z'}[{unit}]" for unit in units]
    with tempfile.TemporaryDirectory() as folder, base.own_style():
        path = Path(folder) / "traversal.png"
        title = "Each unit over its range, the others at the start"
        examples.draw(path, np.stack(rows), title, space.style, Layout(labels))
        return Picture(path.read_bytes())


def _draws(run: Run):
    """Codes from the prior [DRAWS, Z], a tree like z; None where there is no prior."""
    if run.model.sample_prior is None:
        return None
    keys = jax.random.split(jax.random.key(run.config.eval.seed), DRAWS)
    draw = jax.vmap(lambda key: run.model.sample_prior(run.params, key, run.hypers))
    return jax.tree.map(np.asarray, draw(keys))


def _row(tree, i: int):
    return jax.tree.map(lambda leaf: leaf[i], tree)


def _first(tree) -> np.ndarray:
    """The array of the layer nearest to x."""
    return np.asarray(next(iter(layers(tree).values())))
