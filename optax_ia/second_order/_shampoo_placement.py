"""Where Shampoo's stacks of blocks live, and their updates carried out there."""

import functools
import math
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from optax_ia.second_order._shampoo_stacks import (
    Advanced,
    Moment,
    Options,
    StackState,
    advance,
)


class Placement:
    """Where stacks live: their first axis split over devices, or wherever they are."""

    def __init__(self, sharding: NamedSharding | None):
        """Takes the user's sharding.

        Args:
          sharding: of the first axis of the stacks; None leaves all to the compiler.

        Raises:
          ValueError: if it splits nothing, or another axis than the first.
        """
        self.sharding = sharding
        self.shards = None
        if sharding is None:
            return
        axes = sharding.spec[0] if len(sharding.spec) else None
        if axes is None or any(axis is not None for axis in sharding.spec[1:]):
            raise ValueError(
                "sharding must split the first axis alone, as "
                f"NamedSharding(mesh, PartitionSpec('data')), got {sharding.spec}."
            )
        names = axes if isinstance(axes, tuple) else (axes,)
        self.shards = math.prod(sharding.mesh.shape[name] for name in names)

    def split(self, stack: jax.Array) -> jax.Array:
        """A stack on its devices."""
        if self.sharding is None:
            return stack
        return jax.lax.with_sharding_constraint(stack, self.sharding)

    def advance(
        self, tensor: jax.Array, state: StackState, moment: Moment, options: Options
    ) -> Advanced:
        """One update of a stack, each block where its statistics live.

        Args:
          tensor: the gradient, padded.
          state: of the stack.
          moment: what to do.
          options: how.

        Returns:
          What comes of it: the preconditioned gradient and the norms on all devices.
        """
        blocking = options.blocking
        if self.shards is not None:
            blocking = blocking.first(blocking.counts[0] // self.shards)
        step = functools.partial(advance, options=options._replace(blocking=blocking))

        def own_platform(*arguments: Any) -> Any:
            return jax.lax.platform_dependent(
                *arguments,
                cpu=functools.partial(step, piecewise=True),
                default=functools.partial(step, piecewise=False),
            )

        if self.sharding is None:
            return own_platform(tensor, state, moment)
        own, everywhere = PartitionSpec(self.sharding.spec[0]), PartitionSpec()
        found = jax.shard_map(
            own_platform,
            mesh=self.sharding.mesh,
            in_specs=(own, own, everywhere),
            out_specs=own,
            check_vma=False,  # LAPACK's calls say nothing of how their results vary
        )(tensor, state, moment)
        whole = NamedSharding(self.sharding.mesh, everywhere)
        gathered = jax.lax.with_sharding_constraint(found[:3], whole)
        return Advanced(gathered[0], gathered[1], gathered[2], found.state)
