"""The vocabulary of the project: what every package passes around. No logic.

Axis letters: B batch, K posterior samples, Z latent units, D values of one example, N members of
the population, T training steps per call. Everything named `loss` goes down; `elbo` and `bound` go
up; all are in nats per example.

A model with one stochastic layer has a bare array z [Z] and one posterior. A model with several has
dicts {"z1": ..., "z2": ...}, z1 nearest to x; rates and posteriors have the same keys.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import jax

Array = jax.Array
Params = Any  # a pytree of arrays
Latent = Any  # z: an array [Z], or a dict of such arrays, one for each stochastic layer
Hypers = dict[str, Array]  # the keys of config.hypers: [] each for one member, [N] for a population


class Example(NamedTuple):
    """One example. Wherever a model takes an example, a bare array `x` stands for `Example(x)`."""

    x: Any  # the values, an array of any shape; a model flattens them as it needs
    condition: dict[str, Any] | None = None  # arrays that the model is given beside x
    observed: Any = None  # bool, the shape of x; False = missing. None: all are observed


class Draw(NamedTuple):
    """One posterior draw z ~ q(z|x) of one example, in nats.

    A deterministic code has no density: rate and log_w are None, and every draw is the same.
    """

    distortion: Array  # -log p(x|z), observed values only  []
    # KL(q(z|x) || p(z)) where the prior has it in closed form, else log q(z|x) - log p(z) of this
    # draw. A tree like z: per unit [Z] where it is a sum over units, else [] per layer
    rate: Latent | None
    log_w: Any  # log p(x, z) - log q(z|x): the log of an importance weight  []; or None
    z: Latent
    posterior: Any  # the parameters of q(z|x): a distribution, or a dict of them like z
    penalty: Array | float = 0.0  # terms that are neither distortion nor rate, a codebook's  []


# The values that x may take: {0, 1}, [0, 1], {k/255} or any.
Support = Literal["binary", "unit", "levels", "real"]


class Likelihood(NamedTuple):
    """p(x|z) of D values that are independent given z, element by element.

    `theta` holds the likelihood's own parameters, `out` [D, channels] is the output of the decoder
    network, x is [D].
    """

    support: Support
    init: Callable[[], Params]  # () -> theta
    start: Callable[[Array], Array]  # mean of the data [D] -> out whose p(x|z) has that mean
    log_prob: Callable[[Params, Array, Array], Array]  # (theta, out, x) -> [D]
    mean: Callable[[Params, Array], Array]  # (theta, out) -> [D]
    sample: Callable[[Params, Array, Array], Array]  # (theta, rng, out) -> [D]
    # () -> first values of running statistics. They are params["statistics"], where their gradient
    # is (value - batch statistic), and `theta` holds them as theta["statistics"].
    statistics: Callable[[], Params] = dict
    bounded: bool = False  # whether a density has a largest value, whatever its parameters
    # `mean` of one value as a function in JavaScript of its out [channels], for the report's latent
    # explorer: "out => out[0]". "": there is none, and no explorer.
    javascript: str = ""
    units: Any = None  # (shift, scale), each [D]: `mean` is scale times that function, plus shift

    @property
    def mass(self) -> bool:
        """Whether log_prob is the log of a probability, not of a density."""
        return self.support in ("binary", "levels")


class Perceptron(NamedTuple):
    """Fully connected layers, h = activation(W h + b), the last one without an activation."""

    layers: Callable[[Params], list[tuple[Array, Array]]]  # params -> W [outputs, inputs], b
    activation: str  # a name of networks.layers.ACTIVATIONS


class Network(NamedTuple):
    """A pair of pure functions. `latent_dim` may be traced: the active ones of `width` units."""

    init: Callable[[Array, Any], Params]  # (rng, latent_dim) -> params
    apply: Callable[..., Any]  # an encoder: (params, x) -> (mean [Z], logvar [Z]);
    # a decoder: (params, z) -> out [D, channels]
    perceptron: Perceptron | None = None  # what `apply` computes, if that is such layers alone


class Architecture(NamedTuple):
    """The networks of q(z|x) and p(x|z), for one shape of examples and one latent width."""

    encoder: Network
    decoder: Callable[[Array], Network]  # first bias of the output [D, channels] -> the decoder
    one_by_one_on_cpu: bool = False  # members that share a CPU train faster one after another


class Prior(NamedTuple):
    """p(z) of arrays z [width], of which the first `latent_dim` units are active.

    `params` are the whole model's, for a prior may need the encoder (VampPrior); the prior's own
    are params["prior"]. An inactive unit has z = 0 and changes no density.
    """

    init: Callable[[Array, Array], Params]  # (rng, latent_dim) -> params["prior"]
    log_prob: Callable[[Params, Array, Array], Array]  # (params, z, latent_dim) -> []
    sample: Callable[[Params, Array, Array], Array]  # (params, rng, latent_dim) -> z [width]
    # (params, posterior, latent_dim) -> KL(q(z|x) || p(z)) per unit [width]; None: it is not known
    # in closed form, and the rate is that of the draw
    kl: Callable[[Params, Any, Array], Array] | None = None
    standard_normal: bool = False  # whether it is N(0, I)


class Generator(NamedTuple):
    """p(x|z). Functions of a model's params, of which they use "decoder" and "statistics"."""

    init: Callable[[Array, Array], Params]  # (rng, latent_dim) -> params["decoder"]
    log_prob: Callable[[Params, Latent, Example], Array]  # (params, z, example) -> [], observed x
    # (params, z, condition) -> E[x|z] in the shape of x; None where it is not known
    mean: Any
    sample: Callable[[Params, Latent, Array, Any], Array]  # (params, z, rng, condition) -> x
    statistics: Callable[[], Params] = dict  # () -> params["statistics"], see Likelihood
    # If `mean` is the likelihood's, of such layers of z alone; a function of the model's params
    perceptron: Perceptron | None = None


class Encode(Protocol):
    def __call__(
        self, params: Params, x: Example | Array, hypers: Hypers, rng: Array | None = None
    ) -> Any:
        """The parameters of q(z|x). Without rng, means are propagated from layer to layer."""
        ...


class DrawOne(Protocol):
    def __call__(
        self,
        params: Params,
        x: Example | Array,
        rng: Array,
        hypers: Hypers,
        path_weight: Array | None = None,
        score: bool | None = None,
        offset: Any = None,
    ) -> Draw:
        """One draw z ~ q(z|x).

        Args:
          path_weight: [], multiplies the gradient of the path through z. None: 1.
          score: whether log q keeps its gradient through its own parameters (the score); None:
            exactly when path_weight is None. Without it all params are stopped inside log q.
          offset: a tree like Draw.posterior, added to the parameters of q(z|x), of several layers
            to those of each conditional: another member of the same family. None: none.
        """
        ...


class Decode(Protocol):
    def __call__(self, params: Params, z: Latent, condition=None, rng=None) -> Array:
        """The mean of p(x|z), or a sample of it when rng is given."""
        ...


class SamplePrior(Protocol):
    def __call__(self, params: Params, rng: Array, hypers: Hypers, condition=None) -> Latent:
        """z ~ p(z)."""
        ...


class Model(NamedTuple):
    """Pure functions of one example. params has the keys encoder, decoder and prior.

    log_q and log_joint are None where z has no density, sample_prior where nothing says how codes
    are distributed.
    """

    init: Callable[[Array, Hypers], Params]  # (rng, hypers) -> params
    encode: Encode
    # (params, x, z, hypers) -> [], of any z and not only the drawn one
    log_q: Any  # log q(z|x), or None
    log_joint: Any  # log p(x, z), or None
    draw: DrawOne
    decode: Decode
    sample_prior: Any  # a SamplePrior, or None
    # (params, mean [Z], covariance [Z, Z] of the training codes) -> params; for a prior that is
    # fitted after training
    fit_prior: Any = None
    log_prior: Any = None  # (params, z, hypers) -> log p(z)  [], or None
    standard_normal: bool = False  # whether z is one layer with the prior N(0, I)
    perceptron: Perceptron | None = None  # of `decode`, see Generator
    # (params, z, name, rng=None) -> z with the layers below `name` drawn from p given it, or their
    # means without rng; None of a model with one layer
    from_layer: Any = None


class Objective(NamedTuple):
    """Turns the draws of a batch into one scalar to minimize, and its metrics."""

    # (rng, hypers) -> params["objective"]; {} unless it has networks of its own
    init: Callable[[Array, Hypers], Params]
    # (params, draws, x, rng, hypers) -> (loss [], metrics), where
    # draws(params, path_weight=None, score=None) -> Draw [B, K]
    loss: Callable[..., tuple[Array, dict[str, Any]]]
    # hypers -> the optimizer of params["objective"]; None: that of the model, with its clipping
    optimizer: Callable[[Hypers], Any] | None = None
    # (hypers, step, steps_per_epoch) -> hypers in force at this step
    schedule: Callable[[Hypers, Any, float], Hypers] | None = None


class Field(NamedTuple):
    """A field of the configuration. Its type is that of the default."""

    default: Any
    help: str  # one line
    choices: tuple[str, ...] = ()
    above: float | None = None  # exclusive lower limit
    least: float | None = None  # inclusive lower limit
    below: float | None = None  # exclusive upper limit
    most: float | None = None  # inclusive upper limit
    of_names: bool = False  # whether it is a tuple of names


class Part(NamedTuple):
    """Something that the configuration chooses by name, and everything about it.

    What `make` takes and gives is said in the package of its kind.
    """

    kind: str  # "network" | "likelihood" | "prior" | "model" | "objective" | "optimizer" | ...
    name: str
    make: Callable[..., Any]
    words: str = ""  # what it is, in one line
    fields: dict[str, Field] = {}  # noqa: RUF012  static, of the section of its kind
    hypers: dict[str, Field] = {}  # noqa: RUF012  traced, of config.hypers
    # what the other parts must provide, such as "a rate"; may be a function of the config
    # {"section.field": value}
    needs: tuple[str, ...] | Callable[[dict], tuple[str, ...]] = ()
    provides: tuple[str, ...] = ()
    uses: tuple[str, ...] = ("network", "likelihood", "prior")  # of a model: what it is made of
    # (config {"section.field": value}, facts of the data or None) -> what is wrong, or ""
    fits: Callable[[dict, Any], str] | None = None


class Best(NamedTuple):
    """The parameters with the highest validation ELBO so far, or bound (eval.select): averaged ones
    if there are any."""

    params: Params
    valid_elbo: Array  # [], -inf until the first validation that counts
    step: Array  # [] int32, -1 until then


class TrainState(NamedTuple):
    """The state of one member; with a leading axis N, of the population. It holds no randomness."""

    step: Array  # [] int32: steps taken
    params: Params
    opt_state: Any
    average: Params | None  # moving average of params; None without train.ema_decay
    best: Best
    diverged_at: Array  # [] int32: first step whose loss or gradient was not finite, else -1
    stopped_at: Array  # [] int32: step at which early stopping ended the training, else -1
