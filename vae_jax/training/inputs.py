"""What a user gives to a `Run`, checked and in canonical form.

Arrays are NumPy's from here on. Within a user's jit, grad or vmap they are traced: then their
values are not known, and only shapes are checked.
"""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.errors import UserError
from vae_jax.training.program import Program
from vae_jax.types import Example, Latent

_ROUNDING = 1e-5  # by so much may shares of 1 be off


def is_traced(tree) -> bool:
    """Whether some array has no values yet."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))  # pyright: ignore[reportAttributeAccessIssue]


def level(program: Program, name: str | None) -> str | None:
    """The name of a stochastic layer of a model that has several, or None.

    Raises:
      UserError: the model has no such layer.
    """
    if name is None:
        return None
    there = program.latent_dim()
    if not isinstance(there, dict) or program.model.from_layer is None:
        raise UserError(f"level is {name!r}, but this model has one stochastic layer: leave it out")
    if name not in there:
        raise UserError(f"level is {name!r}, but the layers are {', '.join(there)}")
    return name


def num_rows(tree) -> int:
    """B of a tree of arrays [B, ...]."""
    return jax.tree.leaves(tree)[0].shape[0]


def array(name: str, values) -> Any:
    """`values` as an array, unless they are traced."""
    if is_traced(values):
        return values
    if np.ma.is_masked(values):
        raise UserError(
            f"{name} is a masked array: give its values, np.ma.getdata({name}), and which of them "
            "are there, as observed="
        )
    try:
        return np.asarray(values)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} is not an array: {error}") from error


def key(rng) -> jax.Array:
    """`rng`, or the key of this seed."""
    try:
        if jnp.issubdtype(jnp.result_type(rng), jnp.integer) and not jnp.shape(rng):
            if not is_traced(rng) and not -(1 << 31) <= int(rng) < 1 << 32:
                raise OverflowError("a seed has 32 bits")
            rng = jax.random.key(rng)
        jax.random.fold_in(rng, 0)  # which only a key can be
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"rng is {rng!r}, expected a key such as jax.random.key(0), or an integer seed"
        ) from error
    return rng


def whole(name: str, value, least: int) -> int:
    """A whole number of at least `least`."""
    try:
        found = operator.index(value)
    except TypeError:
        found = least - 1
    if found < least:
        raise UserError(f"{name} is {value!r}, expected a whole number, {least} or more")
    return found


def batch(program: Program, x: Any, condition, observed) -> Example:
    """Examples as rows: x float32 [B, D], 0 where it is missing; uint8 is divided by 255."""
    x = _flat(program, "x", x)
    if not (x.dtype in (bool, np.uint8) or jnp.issubdtype(x.dtype, jnp.floating)):
        raise UserError(f"x is {x.dtype}, expected uint8 grey values or floats")
    if x.dtype == np.uint8 and program.facts.scaling is not None:
        raise UserError(
            "x is uint8, which stands for grey values, but this model is of numbers in units of "
            "their own: give floats"
        )
    if x.dtype == np.uint8 and not is_traced(x) and x.size and x.max() == 1:
        raise UserError(
            "x is uint8 of 0 and 1, two shades of black of 255: give black and white as bools or "
            "floats"
        )
    x = _shares(x) if x.dtype == np.uint8 else x.astype(np.float32)
    seen = x
    if observed is not None:
        observed = _mask(program, observed, x.shape[0])
        traced = is_traced((x, observed))
        x = (jnp if traced else np).where(observed, x, np.float32(0))
        seen = x if traced else x[observed]
    if not is_traced(seen) and seen.size:
        _check_values(program, seen)
    return Example(x, labels(program, condition, x.shape[0]), observed)


def _shares(x: Any) -> Any:
    """Grey values divided by 255 as in training: XLA rounds otherwise than NumPy."""
    if is_traced(x):
        return x / jnp.float32(255)
    with jax.ensure_compile_time_eval():
        return np.asarray(jnp.arange(256, dtype=jnp.uint8) / jnp.float32(255))[x]


def _flat(program: Program, name: str, values) -> Any:
    """A batch in any of its shapes as rows [B, D]."""
    values = array(name, values)
    check_shape(program, name, values.shape)
    return values.reshape(values.shape[0], int(np.prod(program.example_shape)))


def check_shape(program: Program, name: str, shape: tuple) -> None:
    """Checks that it is [B, ...] of the examples' shape, [B, D], or of one channel [B, H, W]."""
    one = program.example_shape
    known = [one, (int(np.prod(one)),)] + [one[:-1]] * (len(one) == 3 and one[-1] == 1)
    if shape[1:] not in known:
        hint = ""
        if shape in known:
            hint = f": for one example give {name}[None]"
        elif len(one) == 3 and shape[1:] == (one[2], *one[:2]):
            hint = ": transpose it, channels come last"
        expected = dict.fromkeys(f"[{', '.join(map(str, ('B', *axes)))}]" for axes in known)
        raise UserError(f"{name} has shape {shape}, expected {' or '.join(expected)}{hint}")


def _mask(program: Program, observed, num: int) -> Any:
    observed = _flat(program, "observed", observed)
    if observed.shape[0] != num:
        raise UserError(f"observed is of {observed.shape[0]} examples, but x of {num}")
    if not is_traced(observed) and not np.isin(observed, (0, 1)).all():
        raise UserError("observed has other values than True and False")
    return observed.astype(bool)


def _check_values(program: Program, x: np.ndarray) -> None:
    """Checks that values are such as the model was trained on."""
    if not np.isfinite(x).all():
        raise UserError(
            "x has values that are NaN or infinite: replace them, or say which values are there, "
            "with observed="
        )
    least, most, mean = float(x.min()), float(x.max()), float(x.mean(dtype=np.float64))
    told = f"x has values from {least:g} to {most:g}"
    if program.values_are_shares and not -_ROUNDING <= least <= most <= 1 + _ROUNDING:
        raise UserError(
            f"{told}, but this model is of values in [0, 1]: scale them, or give grey values as "
            "uint8"
        )
    if program.facts.value_range is not None:
        low, high = program.facts.value_range
        # Draws of a density may lie anywhere, but not all of them.
        if not low - (high - low) <= mean <= high + (high - low):
            raise UserError(
                f"{told}, {mean:g} on average, but this model was trained on values from {low:g} "
                f"to {high:g}: scale them likewise"
            )


def labels(program: Program, condition, num: int) -> dict[str, Any] | None:
    """The labels that the model is given, each [num]."""
    wanted, given = program.facts.example().condition or {}, condition or {}
    if wanted.keys() != given.keys():
        there, expected = (", ".join(names) or "no labels" for names in (given, wanted))
        raise UserError(f"condition has {there}, expected {expected}")
    found = {name: array(f"condition {name!r}", given[name]) for name in wanted}
    for name, values in found.items():
        if values.shape != (num,):
            raise UserError(f"condition {name!r} has shape {values.shape}, expected ({num},)")
    return {name: values.astype(wanted[name].dtype) for name, values in found.items()} or None


def codes(program: Program, z) -> Latent:
    """Codes [B, latent_dim], float32; of several layers a dict of them."""
    like = program.draw_like.z
    if jax.tree.structure(z) != jax.tree.structure(like):
        layers = f"a dict of {', '.join(like)}" if isinstance(like, dict) else "an array"
        raise UserError(f"codes are expected as {layers}")
    z = jax.tree.map(lambda leaf: array("codes", leaf), z)
    for given, wanted in zip(jax.tree.leaves(z), jax.tree.leaves(like), strict=True):
        if given.ndim != 2 or given.shape != (num_rows(z), *wanted.shape):
            raise UserError(f"codes have shape {given.shape}, expected [B, {wanted.shape[0]}]")
        if not is_traced(given) and not np.isfinite(given.astype(np.float32)).all():
            raise UserError("codes have values that are NaN or infinite")
    return jax.tree.map(lambda leaf: leaf.astype(np.float32), z)
