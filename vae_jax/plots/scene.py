"""What the plots of one model draw from: the model, test examples and their codes."""

from typing import NamedTuple

import jax
import numpy as np

from vae_jax.metrics.active_units import ACTIVE
from vae_jax.plots.examples import Style
from vae_jax.run import Codes, Run
from vae_jax.types import Example, Latent

TAIL = 0.01  # of the codes, outside `Scene.span` at either end


def layers(tree: Latent) -> dict:
    """{name: array} of the stochastic layers, z1 first; the name of a single layer is ""."""
    return dict(sorted(tree.items())) if isinstance(tree, dict) else {"": tree}


class Scene(NamedTuple):
    """A model and test examples; where z has several layers, units are those of z1."""

    run: Run
    examples: Example  # as evaluated  [n, D]
    codes: Codes  # of these, then of more test examples
    unit_rate: Latent | None  # KL per unit over the test split, nats  [Z]; None: not known
    style: Style
    about: str  # the data and the state of the training, for titles
    standard_normal: bool  # whether the prior is N(0, I)

    @property
    def x(self) -> np.ndarray:
        """The examples  [n, *example_shape]."""
        return np.asarray(self.examples.x).reshape(-1, *self.style.shape)

    @property
    def symbol(self) -> str:
        """ "z", or "z1" where there are several layers."""
        return next(iter(layers(self.codes.mean))) or "z"

    @property
    def means(self) -> np.ndarray:
        """The means of the codes  [N, Z]."""
        return next(iter(layers(self.codes.mean).values()))

    @property
    def rate(self) -> np.ndarray | None:
        """The KL of each unit, nats  [Z]; None where it is not known."""
        rate = next(iter(layers(self.unit_rate).values()))
        return None if rate is None else np.array(rate, float)

    @property
    def activity(self) -> np.ndarray:
        """The variance of the means, per unit  [Z]."""
        return self.means.var(axis=0, dtype=np.float64)

    @property
    def num_active(self) -> int:
        """The number of active units."""
        return int(np.sum(self.activity > ACTIVE))

    @property
    def span(self) -> np.ndarray:
        """The quantiles TAIL and 1 - TAIL of the means, per unit  [2, Z]."""
        return np.quantile(self.means, (TAIL, 1 - TAIL), axis=0)

    def with_layer(self, z: np.ndarray) -> Latent:
        """Codes z [R, C, Z] of z1; other layers stay at the code of the first example."""
        if not isinstance(self.codes.mean, dict):
            return z
        first, *others = layers(self.codes.mean)
        own = {name: self.codes.mean[name][0] for name in others}
        return {first: z} | {name: np.tile(code, (*z.shape[:2], 1)) for name, code in own.items()}

    def decode(self, z: Latent, examples: np.ndarray) -> np.ndarray:
        """E[x|z] of codes [R, C, Z], a row at a time: [R, C, *example_shape].

        Row r is given the condition of the test example number `examples[r]`.
        """
        rows = []
        for r, example in enumerate(examples):
            codes = jax.tree.map(lambda leaf, r=r: leaf[r], z)
            same = np.full(len(jax.tree.leaves(codes)[0]), example)
            condition = jax.tree.map(lambda leaf, i=same: leaf[i], self.examples.condition)
            rows.append(np.asarray(self.run.decode(codes, condition)))
        return np.stack(rows)
