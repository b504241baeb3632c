"""What an estimator is: one file with its computation, its fields, its words and its pictures."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from vae_jax import rng as streams
from vae_jax.types import Field

# What an estimator may need of the model and the data; `estimators.properties` says what is there.
CAPABILITIES = (
    "a density log p(x, z)",
    "a prior density log p(z)",
    "the prior N(0, I)",
    "a prior to sample from",
    "a density log q(z|x)",
    "a diagonal Gaussian q(z|x)",
    "a code, the mean of q(z|x)",
    "labels of several classes",
)


class Row(NamedTuple):
    """A row of bounds.png: one estimate of, or bound on, log p(x)."""

    group: str  # the examples that it is the mean of: "test examples" | "simulated examples"
    label: str
    bound: dict  # "log_p", "stderr" over examples, and "noise_stderr" of the estimate where known
    upper: bool = False  # whether it is an upper bound


class Picture(NamedTuple):
    """A PNG file of one member's numbers, or of those of several members."""

    file: str
    caption: str  # what a reader should look for; the part between ** names it
    # (path, found, member, title) of one member: its numbers, and its entry in `members` of
    # results.json; with `of_members` (path, [(name of the member, found)], title)
    draw: Callable[..., None]
    of_members: bool = False


class Estimator(NamedTuple):
    """Something that is estimated of a trained member beyond the evaluation's own bound.

    `found` is a dict of its numbers, as they stand in results.json. A user's own estimator comes in
    `parts=`, and may then be one of `eval.estimators`.
    """

    name: str
    task: Callable[..., Any]  # Study -> Task
    line: Callable[[dict], str]  # found -> its numbers in one line
    meaning: str  # what the numbers mean, in one line
    pictures: tuple[Picture, ...]  # () where its rows or its line are all
    # section config.eval -> what it needs, of CAPABILITIES
    needs: Callable[..., tuple[str, ...]]
    fields: dict[str, Field] = {}  # noqa: RUF012  of config.eval; neighbours may share them
    # (section config.eval, Dataset) -> what is wrong with the number of examples, or ""
    enough: Callable[..., str] | None = None
    rows: Callable[[dict], list[Row]] | None = None  # found -> rows of bounds.png
    after: tuple[str, ...] = ()  # estimators whose arrays its summary reads
    beside: tuple[str, ...] = ()  # likewise, where they are asked for, too
    # found -> what is wrong where numbers contradict each other, or None
    violation: Callable[[dict], str | None] | None = None
    fits: Callable[[dict, object], str] | None = None  # as of a types.Part
    # What folds into rng's root. The package's own have small numbers, the next free one; without
    # one it is a digest of the name
    key: int | None = None
    kind: str = "estimator"
    hypers: dict[str, Field] = {}  # noqa: RUF012  estimators have none

    def rng(self, seed: int) -> jax.Array:
        """The root of its randomness for `eval.seed`: to be folded or split, but not both."""
        return streams.of_estimator(seed, self.name if self.key is None else self.key)
