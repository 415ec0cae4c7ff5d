"""Inception v3 with its auxiliary outputs."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from optax_ia.models import _layers
from optax_ia.models._layers import Activation, ImageNetwork, ModuleDef
from optax_ia.models._sizes import takes_images


class Mixed(NamedTuple):
    """The branches of one mixed layer.

    Attributes:
      chains: as in :class:`Branches`.
      pool: as in :class:`Branches`.
    """

    chains: tuple[tuple[Any, ...], ...]
    pool: str | int


class Branches(nn.Module):
    """Chains of convolutions side by side, and pooling, joined along the channels.

    Attributes:
      chains: the chains, each a tuple of (name, features, kernel, stride, padding) or,
        where it ends in two convolutions side by side, of such and a pair of them.
      pool: "max" for maxima of stride 2; a number of features for means followed by a
        1x1 convolution.
      unit: makes a convolution with normalisation and activation.
    """

    chains: tuple[tuple[Any, ...], ...]
    pool: str | int
    unit: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns all branches in order, the pooled one last."""
        outputs = []
        for chain in self.chains:
            y = x
            for layer in chain:
                forks = layer if isinstance(layer[0], tuple) else (layer,)
                y = jnp.concatenate([self._unit(*fork)(y) for fork in forks], -1)
            outputs.append(y)
        if self.pool == "max":
            outputs.append(_layers.max_pool(x, 3, 2))
        else:
            pooled = _layers.avg_pool(x, 3, 1, 1)
            outputs.append(self._unit("branch_pool", self.pool)(pooled))
        return jnp.concatenate(outputs, -1)

    def _unit(self, name, features, kernel=1, stride=1, padding=None):
        return self.unit(features, kernel, stride, padding=padding, name=name)


def mixed_a(pool: int) -> Mixed:
    """1x1, 5x5, two of 3x3, and means."""
    return Mixed(
        chains=(
            (("branch1x1", 64),),
            (("branch5x5_1", 48), ("branch5x5_2", 64, 5)),
            (
                ("branch3x3dbl_1", 64),
                ("branch3x3dbl_2", 96, 3),
                ("branch3x3dbl_3", 96, 3),
            ),
        ),
        pool=pool,
    )


def mixed_b() -> Mixed:
    """Half the size: 3x3, two of 3x3, and maxima."""
    return Mixed(
        chains=(
            (("branch3x3", 384, 3, 2, 0),),
            (
                ("branch3x3dbl_1", 64),
                ("branch3x3dbl_2", 96, 3),
                ("branch3x3dbl_3", 96, 3, 2, 0),
            ),
        ),
        pool="max",
    )


def mixed_c(width: int) -> Mixed:
    """1x1, 7x7 in two steps, twice that, and means."""
    return Mixed(
        chains=(
            (("branch1x1", 192),),
            (
                ("branch7x7_1", width),
                ("branch7x7_2", width, (1, 7)),
                ("branch7x7_3", 192, (7, 1)),
            ),
            (
                ("branch7x7dbl_1", width),
                ("branch7x7dbl_2", width, (7, 1)),
                ("branch7x7dbl_3", width, (1, 7)),
                ("branch7x7dbl_4", width, (7, 1)),
                ("branch7x7dbl_5", 192, (1, 7)),
            ),
        ),
        pool=192,
    )


def mixed_d() -> Mixed:
    """Half the size: 3x3, 7x7 in two steps then 3x3, and maxima."""
    return Mixed(
        chains=(
            (("branch3x3_1", 192), ("branch3x3_2", 320, 3, 2, 0)),
            (
                ("branch7x7x3_1", 192),
                ("branch7x7x3_2", 192, (1, 7)),
                ("branch7x7x3_3", 192, (7, 1)),
                ("branch7x7x3_4", 192, 3, 2, 0),
            ),
        ),
        pool="max",
    )


def mixed_e() -> Mixed:
    """1x1, 3x3 as two side by side, the same after another 3x3, and means."""
    return Mixed(
        chains=(
            (("branch1x1", 320),),
            (
                ("branch3x3_1", 384),
                (("branch3x3_2a", 384, (1, 3)), ("branch3x3_2b", 384, (3, 1))),
            ),
            (
                ("branch3x3dbl_1", 448),
                ("branch3x3dbl_2", 384, 3),
                (("branch3x3dbl_3a", 384, (1, 3)), ("branch3x3dbl_3b", 384, (3, 1))),
            ),
        ),
        pool=192,
    )


class AuxiliaryHead(nn.Module):
    """Outputs from the middle of the network, against vanishing gradients.

    Attributes:
      num_classes: number of outputs.
      unit: makes a convolution with normalisation and activation.
      dense: makes the dense layer.
    """

    num_classes: int
    unit: ModuleDef
    dense: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns logits; the features must have 17 pixels a side, or more."""
        if min(x.shape[1:3]) < 17:
            raise ValueError(
                "the auxiliary head needs features of 17x17 (images of 299x299), got "
                f"{x.shape[1]}x{x.shape[2]}: set aux=False for smaller images."
            )
        x = self.unit(128, 1, name="conv0")(_layers.avg_pool(x, 5, 3))
        x = self.unit(768, 5, padding=0, name="conv1")(x)
        return _layers.logits(self.dense(self.num_classes)(_layers.global_mean(x)))


class InceptionV3(ImageNetwork):
    """The stem, then mixed layers of parallel convolutions.

    Attributes:
      mixed: name and branches of every mixed layer.
      aux_after: the mixed layer whose output the auxiliary head reads.
      aux: whether there is an auxiliary head. In train mode its logits are stored in
        the collection ``auxiliary``: ``mutable=["batch_stats", "auxiliary"]`` returns
        them as ``auxiliary["logits"][0]``, and the loss adds theirs times 0.4. In
        evaluation it is not computed.
      width: factor of all channels.
      act: the activation.
      dropout: rate before the outputs.

    References:
      Szegedy et al., `Rethinking the Inception Architecture for Computer Vision
      <https://arxiv.org/abs/1512.00567>`_, 2015
    """

    mixed: tuple[tuple[str, Mixed], ...] = (
        ("mixed_5b", mixed_a(32)),
        ("mixed_5c", mixed_a(64)),
        ("mixed_5d", mixed_a(64)),
        ("mixed_6a", mixed_b()),
        ("mixed_6b", mixed_c(128)),
        ("mixed_6c", mixed_c(160)),
        ("mixed_6d", mixed_c(160)),
        ("mixed_6e", mixed_c(192)),
        ("mixed_7a", mixed_d()),
        ("mixed_7b", mixed_e()),
        ("mixed_7c", mixed_e()),
    )
    aux_after: str = "mixed_6e"
    aux: bool = True
    width: float = 1.0
    act: Activation = nn.relu
    dropout: float = 0.5

    @takes_images
    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        """Returns logits ``(batch, num_classes)``.

        Args:
          x: images ``(batch, height, width, channels)``, 299 pixels a side originally,
            75 at least (with ``aux=False``).
          train: whether to use and update batch statistics, to drop, and to compute
            the auxiliary logits.
        """
        init = nn.initializers.truncated_normal(0.1)
        conv = functools.partial(_layers.conv, kernel_init=init, dtype=self.dtype)
        norm = _layers.batch_norm(train, self.dtype, epsilon=1e-3)
        dense = functools.partial(nn.Dense, kernel_init=init, dtype=self.dtype)

        def unit(features, *args, **kwargs):
            features = max(1, round(features * self.width))
            return _layers.ConvNormAct(
                features, *args, conv=conv, norm=norm, act=self.act, **kwargs
            )

        x = unit(32, 3, 2, padding=0, name="conv_1a")(x)
        x = unit(32, 3, padding=0, name="conv_2a")(x)
        x = unit(64, 3, name="conv_2b")(x)
        x = _layers.max_pool(x, 3, 2)
        x = unit(80, 1, name="conv_3b")(x)
        x = unit(192, 3, padding=0, name="conv_4a")(x)
        x = _layers.max_pool(x, 3, 2)
        for name, branches in self.mixed:
            x = Branches(*branches, unit=unit, name=name)(x)
            if (
                name == self.aux_after
                and self.aux
                and (train or self.is_initializing())
            ):
                head = AuxiliaryHead(self.num_classes, unit, dense, name="aux")
                aux = head(x)
                if not self.is_initializing():
                    self.sow("auxiliary", "logits", aux)
        x = nn.Dropout(self.dropout, deterministic=not train)(_layers.global_mean(x))
        return _layers.logits(dense(self.num_classes, name="head")(x))


inception_v3 = functools.partial(InceptionV3, num_classes=1000)

inception_tiny = functools.partial(
    InceptionV3,
    mixed=(("mixed_a", mixed_a(64)), ("mixed_b", mixed_b()), ("mixed_c", mixed_c(64))),
    aux=False,
    width=1 / 16,
)
