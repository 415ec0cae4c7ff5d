"""Layers that the image networks share, padded as their PyTorch originals are."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from optax_ia._src.checks import check_choice, check_integer, check_number
from optax_ia.models._sizes import TooSmall, check_map

ModuleDef = Any
Activation = Callable[[jax.Array], jax.Array]

he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""He's normal initialisation by the outputs of a unit, variance ``2 / (k k out)``."""

uniform_fan_in = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""Uniform within ``1 / sqrt(in)``: what PyTorch gives a dense layer."""


class ImageNetwork(nn.Module):
    """What every image network has: its outputs and the type it computes in.

    Attributes:
      num_classes: number of outputs.
      dtype: of the computation; parameters and batch statistics are float32. None
        takes the wider of the images' and the parameters'.
    """

    num_classes: int = 10
    dtype: Any = None

    def __post_init__(self) -> None:
        """Checks the attributes."""
        check_integer("num_classes", self.num_classes, minimum=1)
        stem = getattr(self, "stem", None)
        if stem is not None:
            check_choice("stem", stem, ("cifar", "imagenet"))
        check_number("width", getattr(self, "width", 1), above=0)
        for name in ("dropout", "stochastic_depth"):
            check_number(name, getattr(self, name, 0.0), minimum=0, below=1)
        super().__post_init__()


def conv(
    features: int,
    kernel: int | tuple[int, int] = 3,
    stride: int = 1,
    *,
    groups: int = 1,
    bias: bool = False,
    padding: int | tuple[int, int] | None = None,
    kernel_init: Any = he_fan_out,
    **kwargs: Any,
) -> nn.Conv:
    """A convolution that pads both sides alike, by half its kernel if not told.

    ``"SAME"`` is another padding where the stride is 2: it pads at the end first.
    """
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    if padding is None:
        padding = (height // 2, width // 2)
    vertical, horizontal = (padding, padding) if isinstance(padding, int) else padding
    return nn.Conv(
        features,
        (height, width),
        (stride, stride),
        padding=((vertical, vertical), (horizontal, horizontal)),
        feature_group_count=groups,
        use_bias=bias,
        kernel_init=kernel_init,
        **kwargs,
    )


def dense(features: int, **kwargs: Any) -> nn.Dense:
    """A dense layer, uniform at the start."""
    return nn.Dense(features, kernel_init=uniform_fan_in, **kwargs)


def batch_norm(train: bool, dtype: Any, epsilon: float = 1e-5) -> ModuleDef:
    """Makes batch normalisations that keep nine tenths of the old statistics."""
    return functools.partial(
        nn.BatchNorm,
        use_running_average=not train,
        momentum=0.9,
        epsilon=epsilon,
        dtype=dtype,
    )


def conv_and_norm(train: bool, dtype: Any) -> tuple[ModuleDef, ModuleDef]:
    """What makes the convolutions and the normalisations of most networks."""
    return functools.partial(conv, dtype=dtype), batch_norm(train, dtype)


class ConvNormAct(nn.Module):
    """Convolution, normalisation, activation.

    Attributes:
      features: number of output channels.
      kernel: size of the kernel.
      stride: of the convolution.
      groups: of the convolution.
      padding: of the convolution; None for half the kernel.
      conv: makes the convolution.
      norm: makes the normalisation.
      act: the activation; None for none.
    """

    features: int
    kernel: int | tuple[int, int] = 3
    stride: int = 1
    groups: int = 1
    padding: int | tuple[int, int] | None = None
    conv: ModuleDef = conv
    norm: ModuleDef = nn.BatchNorm
    act: Activation | None = nn.relu

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps ``(batch, height, width, channels)`` to ``features`` channels."""
        x = self.conv(
            self.features,
            self.kernel,
            self.stride,
            groups=self.groups,
            padding=self.padding,
            name="conv",
        )(x)
        x = self.norm(name="norm")(x)
        return x if self.act is None else self.act(x)


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate computed from the means of all channels.

    Attributes:
      hidden: channels of the bottleneck.
      conv: makes the two 1x1 convolutions, which have a bias.
      act: the activation of the bottleneck.

    References:
      Hu et al., `Squeeze-and-Excitation Networks <https://arxiv.org/abs/1709.01507>`_,
      2017
    """

    hidden: int
    conv: ModuleDef
    act: Activation = nn.relu

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns ``x`` scaled."""
        gate = x.mean((1, 2), keepdims=True)
        gate = self.act(self.conv(self.hidden, 1, bias=True, name="reduce")(gate))
        gate = self.conv(x.shape[-1], 1, bias=True, name="expand")(gate)
        return x * nn.sigmoid(gate)


class DropPath(nn.Module):
    """Stochastic depth: drops a whole branch, each example by itself.

    Attributes:
      rate: probability that an example's branch is dropped.
      deterministic: whether to drop nothing.

    References:
      Huang et al., `Deep Networks with Stochastic Depth
      <https://arxiv.org/abs/1603.09382>`_, 2016
    """

    rate: float
    deterministic: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the branch, zero for the dropped examples, scaled for the others."""
        axes = tuple(range(1, x.ndim))
        drop = nn.Dropout(self.rate, axes, deterministic=self.deterministic)
        return drop(x)


def _first_maximum(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.where((x >= y) | jnp.isnan(x), x, y)


def max_pool(x: jax.Array, window: int, stride: int, padding: int = 0) -> jax.Array:
    """Maxima over square windows.

    Windows side by side are compared place by place, which costs a fraction of XLA's
    reduction and its scattered gradient. As there, the first of equal entries in a
    window takes the gradient, and NaN stays.
    """
    check_map(x)
    if window == stride and padding == 0:
        if min(x.shape[1:3]) < window:
            raise TooSmall(f"a feature map of {x.shape} has no window of {window}.")
        height, width = (size // window * window for size in x.shape[1:3])
        places = itertools.product(range(window), repeat=2)
        entries = [x[:, i:height:window, j:width:window] for i, j in places]
        return functools.reduce(_first_maximum, entries)
    pads: Any = ((padding, padding), (padding, padding))
    return check_map(nn.max_pool(x, (window, window), (stride, stride), pads))


def avg_pool(x: jax.Array, window: int, stride: int, padding: int = 0) -> jax.Array:
    """Means over square windows; zeros that pad the image count."""
    pads: Any = ((padding, padding), (padding, padding))
    return check_map(nn.avg_pool(x, (window, window), (stride, stride), pads))


def adaptive_avg_pool(x: jax.Array, size: int) -> jax.Array:
    """Means over ``size`` times ``size`` windows that cover the image evenly.

    Window ``i`` of an axis of length ``n`` reaches from ``floor(i n / size)`` to
    ``ceil((i + 1) n / size)``, so that a smaller image is repeated.
    """
    check_map(x)
    for axis in (1, 2):
        length = x.shape[axis]
        if length == size:
            continue
        weights = np.zeros((size, length))
        for row in range(size):
            start, stop = row * length // size, -(-(row + 1) * length // size)
            weights[row, start:stop] = 1 / (stop - start)
        x = jnp.moveaxis(
            jnp.tensordot(x, jnp.asarray(weights, x.dtype), (axis, 1)), -1, axis
        )
    return x


def global_mean(x: jax.Array) -> jax.Array:
    """The mean of each channel."""
    return check_map(x).mean((1, 2))


def logits(x: jax.Array) -> jax.Array:
    """The outputs in float32 at least, for the loss."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def head(
    x: jax.Array, num_classes: int, dtype: Any, kernel_init: Any = uniform_fan_in
) -> jax.Array:
    """The outputs: a dense layer called ``head``; inside a compact method."""
    layer = nn.Dense(num_classes, kernel_init=kernel_init, dtype=dtype, name="head")
    return logits(layer(x))


class Stem(nn.Module):
    """The first layers: 3x3 for small images, 7x7 and pooling by 4 for large ones.

    Attributes:
      features: number of output channels.
      kind: "cifar" or "imagenet".
      conv: makes the convolution.
      norm: makes the normalisation; None for none, and for no activation either.
      act: the activation.
    """

    features: int
    kind: str
    conv: ModuleDef
    norm: ModuleDef | None
    act: Activation = nn.relu

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps images to ``features`` channels."""
        large = self.kind == "imagenet"
        x = self.conv(self.features, *((7, 2) if large else (3, 1)), name="conv")(x)
        if self.norm is not None:
            x = self.act(self.norm(name="norm")(x))
        return max_pool(x, 3, 2, 1) if large else x
