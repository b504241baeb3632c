"""Where arrays live: a mesh ("member", "data"), one axis for the population and one for the batch.

Placing is all there is to it: the compiled program is the same, and the partitioner does the rest. With several
processes (`jax.distributed`) every one of them runs the same calls in the same order, on its part of the arrays.
"""

import math

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vae_jax.errors import UserError


def member_axis(num_members: int, num_devices: int) -> int:
    """How many devices share the members: as many as divide both numbers."""
    return math.gcd(num_members, num_devices)


def make_mesh(num_members: int, batch_size: int, devices: list | None = None) -> Mesh:
    """As many devices as divide the members, and of the rest as many as divide the batch.

    Raises:
      UserError: a device would be left over that belongs to one of several processes.
    """
    devices = jax.devices() if devices is None else devices
    members = member_axis(num_members, len(devices))
    rest = len(devices) // members
    data = max(d for d in range(1, rest + 1) if batch_size % d == 0)
    if jax.process_count() > 1 and members * data < len(devices):
        raise UserError(
            f"{num_members} members with batches of {batch_size} do not divide among the {len(devices)} devices of "
            f"{jax.process_count()} processes: choose a train.batch_size and eval.batch_size that {rest} divides"
        )
    axis_types = (AxisType.Auto, AxisType.Auto)
    return jax.make_mesh((members, data), ("member", "data"), axis_types, devices=devices[: members * data])


def place(mesh: Mesh, tree, *axes: str | None):
    """`tree` on the mesh, the leading axes of every leaf split along the named mesh axes (None: whole).

    With several processes each gives the whole of `tree`, and the same.
    """
    sharding = NamedSharding(mesh, P(*axes))
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def one(leaf):
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        leaf = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])

    return jax.tree.map(one, tree)


def abstract(mesh: Mesh, tree, *axes: str | None):
    """A tree of shapes that also says where its arrays are to lie."""
    sharding = NamedSharding(mesh, P(*axes))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def fetch(tree):
    """`tree` as NumPy arrays, whole, on every process."""

    def one(leaf):
        whole = not isinstance(leaf, jax.Array) or leaf.is_fully_addressable
        return np.asarray(leaf if whole else multihost_utils.process_allgather(leaf, tiled=True))

    return jax.tree.map(one, tree)
