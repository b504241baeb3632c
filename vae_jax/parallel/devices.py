"""Where arrays live: a mesh ("member", "data"), one axis for the population and one for the batch;
and how precise products are.

Placing the arrays is all that is done here: the program is the same on any number of devices, and
XLA's partitioner derives the communication. With several processes (`jax.distributed`) each runs
the same calls in the same order, on its part of the arrays.
"""

import contextlib
import math
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vae_jax.errors import UserError


@contextlib.contextmanager
def own_settings() -> Iterator[None]:
    """What is traced or run within gives the same numbers whatever JAX is set to.

    Arrays are float32, noise is threefry's, and products of float32 arrays have its precision:
    left to itself a GPU rounds their factors to TF32 (10 bits of 23), a TPU to bfloat16 (7 bits).
    Of these, what the user has said of products (`jax_default_matmul_precision`) stands. The
    numbers of an H100 are in docs/devices.md. It is a context manager and a decorator.
    """
    with (
        jax.default_matmul_precision(matmul_precision()),
        _without_float64(),
        jax.threefry_partitionable(True),
        jax.default_prng_impl("threefry2x32"),
        jax.numpy_dtype_promotion("standard"),
    ):
        yield


def _without_float64() -> contextlib.AbstractContextManager:
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(False)
    return jax.experimental.disable_x64()  # pyright: ignore[reportAttributeAccessIssue]


def matmul_precision() -> str:
    """What `own_settings` sets: JAX's name of a precision."""
    return jax.config.jax_default_matmul_precision or "highest"  # pyright: ignore[reportAttributeAccessIssue]


def member_axis(num_members: int, num_devices: int) -> int:
    """How many devices share the members: the greatest common divisor of the two numbers."""
    return math.gcd(num_members, num_devices)


def mesh_shape(num_members: int, batch_size: int, num_devices: int) -> tuple[int, int]:
    """(devices that share the members, devices that share a batch): as many as divide them.

    Raises:
      UserError: a device of one of several processes would be left over.
    """
    members = member_axis(num_members, num_devices)
    rest = num_devices // members
    data = max(d for d in range(1, rest + 1) if batch_size % d == 0)
    num_processes = jax.process_count()
    if num_processes > 1 and members * data < num_devices:
        raise UserError(
            f"{num_members} members with batches of {batch_size} do not divide among the "
            f"{num_devices} devices of {num_processes} processes: choose a train.batch_size and "
            f"eval.batch_size that {rest} divides"
        )
    return members, data


def make_mesh(num_members: int, batch_size: int, devices: list | None = None) -> Mesh:
    """The mesh of a population.

    Args:
      devices: of which as many are used as `mesh_shape` says; None: all.
    """
    devices = jax.devices() if devices is None else devices
    members, data = mesh_shape(num_members, batch_size, len(devices))
    used = devices[: members * data]
    axis_types = (AxisType.Auto, AxisType.Auto)
    return jax.make_mesh((members, data), ("member", "data"), axis_types, devices=used)


def place(mesh: Mesh, tree, *axes: str | None):
    """`tree` on the mesh, each leaf's leading axes split along the mesh axes named in `axes`.

    Args:
      tree: the whole of it on every process, and the same.
      axes: one for each leading axis; None: not split.
    """
    sharding = NamedSharding(mesh, P(*axes))
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def place_leaf(leaf):
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        leaf = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])

    return jax.tree.map(place_leaf, tree)


def abstract(mesh: Mesh, tree, *axes: str | None):
    """The ShapeDtypeStructs of `tree`, with the sharding that `place` would give its arrays.

    What a checkpoint is restored onto, whatever devices it was saved from.
    """
    sharding = NamedSharding(mesh, P(*axes))

    def shape_of(leaf) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(shape_of, tree)


def fetch(tree):
    """`tree` as NumPy arrays, whole, on every process."""

    def fetch_leaf(leaf) -> np.ndarray:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            leaf = multihost_utils.process_allgather(leaf, tiled=True)
        return np.asarray(leaf)

    return jax.tree.map(fetch_leaf, tree)
