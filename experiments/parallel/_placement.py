"""Where batches and states lie on a mesh of devices."""

import dataclasses
import math
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from experiments.errors import ExperimentError

AXIS = "data"

Shard = Literal["replicated", "full"]


@dataclasses.dataclass(frozen=True)
class Placement:
    """A mesh of one axis, over which batches are cut, and states too if wanted.

    Attributes:
      mesh: its axis is called "data".
      shard: "replicated" keeps the whole state on every device; "full" cuts each array
        of it, parameters, averages and the optimiser's, along its largest axis that
        the number of devices divides.
      smallest: arrays with fewer elements are never cut: it would save nothing, and
        cost messages.
    """

    mesh: Mesh
    shard: Shard = "replicated"
    smallest: int = 1024

    @property
    def devices(self) -> int:
        """How many devices there are, on all hosts."""
        return self.mesh.size

    @property
    def process_count(self) -> int:
        """How many hosts feed the mesh."""
        return len({device.process_index for device in self.mesh.devices.flat})

    @property
    def replicated(self) -> NamedSharding:
        """The whole on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def by_rows(self) -> NamedSharding:
        """Cut along the first axis."""
        return NamedSharding(self.mesh, PartitionSpec(AXIS))

    def sharding(self, shape: tuple[int, ...]) -> NamedSharding:
        """That of one array of a state.

        Args:
          shape: of the array.

        Returns:
          Its sharding.
        """
        if self.shard == "replicated" or math.prod(shape) < self.smallest:
            return self.replicated
        fitting = [axis for axis, size in enumerate(shape) if size % self.devices == 0]
        if not fitting:
            return self.replicated
        longest = max(fitting, key=lambda axis: shape[axis])
        spec = [None] * longest + [AXIS]
        return NamedSharding(self.mesh, PartitionSpec(*spec))

    def shardings(self, state: Any) -> Any:
        """Those of a state.

        Args:
          state: a tree of arrays or of their shapes and dtypes.

        Returns:
          A tree of shardings.
        """
        return jax.tree.map(lambda leaf: self.sharding(leaf.shape), state)

    def constrain(self, state: Any) -> Any:
        """Inside a compiled function: keeps a state where it is to lie.

        Args:
          state: a tree of traced arrays.

        Returns:
          The same values.
        """
        return jax.lax.with_sharding_constraint(state, self.shardings(state))

    def place(self, state: Any) -> Any:
        """Moves a state to where it is to lie.

        Args:
          state: a tree of arrays, each whole on every host or on the mesh already.

        Returns:
          The same values.
        """

        def move(leaf: jax.Array) -> jax.Array:
            sharding = self.sharding(leaf.shape)
            if leaf.sharding.is_equivalent_to(sharding, leaf.ndim):
                return leaf
            return jax.jit(lambda x: x, out_shardings=sharding)(leaf)

        return jax.tree.map(move, state)

    def share(self, batch: Any) -> Any:
        """Puts a batch on the devices, of which every host holds its own share.

        Args:
          batch: a tree of arrays in this host's memory, rows first.

        Returns:
          A tree of global arrays, cut along their rows.
        """
        return jax.tree.map(
            lambda rows: jax.make_array_from_process_local_data(self.by_rows, rows),
            batch,
        )

    def whole(self, batch: Any, axis: int = 0) -> Any:
        """Puts a batch on the devices, which every host holds whole.

        Args:
          batch: a tree of arrays in this host's memory; scalars may be among them,
            which go to every device.
          axis: that of the rows.

        Returns:
          A tree of global arrays, cut along their rows.
        """
        cut = NamedSharding(self.mesh, PartitionSpec(*[None] * axis, AXIS))

        def put(array: np.ndarray) -> jax.Array:
            return jax.make_array_from_callback(
                array.shape,
                cut if array.ndim else self.replicated,
                lambda index: array[index],
            )

        return jax.tree.map(put, batch)


def place_over(
    devices: int | None = None, shard: Shard = "replicated"
) -> Placement | None:
    """A placement over devices, those of one host together and in order.

    The mesh keeps that order, so that the rows of a global batch are those of the
    first host, then those of the second: what is computed does not depend on how many
    hosts there are. (``jax.make_mesh`` may reorder devices after the network between
    them, which matters where a mesh has several axes.)

    Args:
      devices: how many; None takes all, of all hosts.
      shard: as :class:`Placement` has it.

    Returns:
      The placement; None for one device, which needs none.

    Raises:
      ExperimentError: if there are not as many, or some hosts would have none.
    """
    found = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    wanted = len(found) if devices is None else devices
    if not 1 <= wanted <= len(found):
        raise ExperimentError(
            f"--devices must be between 1 and {len(found)}, the devices there are, got "
            f"{wanted}"
        )
    if jax.process_count() > 1 and wanted < len(found):
        raise ExperimentError(
            f"--devices must be {len(found)}, all there are, where several processes "
            f"train together, got {wanted}"
        )
    if wanted == 1:
        return None
    chosen = np.array(found[:wanted])
    return Placement(Mesh(chosen, (AXIS,), axis_types=(AxisType.Auto,)), shard)
