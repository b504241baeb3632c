"""Where arrays live: a mesh ("member", "data"), one axis for the population and one for the batch.

Placing is all there is to it: the compiled program is the same, and the partitioner does the rest.
"""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


def make_mesh(num_members: int, batch_size: int, devices: list | None = None) -> Mesh:
    """As many devices as divide the members, and of the rest as many as divide the batch."""
    devices = jax.devices() if devices is None else devices
    members = max(d for d in range(1, len(devices) + 1) if len(devices) % d == 0 and num_members % d == 0)
    rest = len(devices) // members
    data = max(d for d in range(1, rest + 1) if batch_size % d == 0)
    axis_types = (AxisType.Auto, AxisType.Auto)
    shape = (members, data)
    return jax.make_mesh(shape, ("member", "data"), axis_types, devices=devices[: members * data])


def place(mesh: Mesh, tree, *axes: str | None):
    """`tree` on the mesh, the leading axes of every leaf split along the named mesh axes (None: whole)."""
    return jax.device_put(tree, NamedSharding(mesh, P(*axes)))
