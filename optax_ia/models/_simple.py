"""The small networks: logistic regression, perceptrons, LeNet, an autoencoder."""

import functools

import flax.linen as nn
import jax

from optax_ia._src.checks import check_number
from optax_ia.models import _layers
from optax_ia.models._layers import Activation, ImageNetwork
from optax_ia.models._sizes import takes_images


class MLP(ImageNetwork):
    """Dense layers on the flattened image; without hidden ones, logistic regression.

    Attributes:
      hidden: widths of the hidden layers.
      act: the activation.
      dropout: rate after every hidden layer.
    """

    hidden: tuple[int, ...] = (256, 128)
    act: Activation = nn.relu
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        """Returns logits ``(batch, num_classes)``.

        Args:
          x: images ``(batch, height, width, channels)``, or vectors.
          train: whether to drop.
        """
        x = x.reshape(x.shape[0], -1)
        for index, features in enumerate(self.hidden, start=1):
            layer = nn.Dense(
                features,
                kernel_init=nn.initializers.he_normal(),
                dtype=self.dtype,
                name=f"dense{index}",
            )
            x = self.act(layer(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return _layers.head(x, self.num_classes, self.dtype)


class LeNet(ImageNetwork):
    """Two 5x5 convolutions with pooling, three dense layers.

    Attributes:
      widths: channels of the convolutions.
      hidden: widths of the dense layers before the outputs.
      act: the activation; LeCun et al. took a scaled tanh.

    Note:
      Max-pooling and full connections between the maps, as LeNet is built today;
      LeCun et al. subsampled with trained coefficients and connected maps in part.

    References:
      LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998
    """

    widths: tuple[int, int] = (6, 16)
    hidden: tuple[int, ...] = (120, 84)
    act: Activation = nn.relu

    @takes_images
    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        """Returns logits ``(batch, num_classes)``.

        Args:
          x: images ``(batch, height, width, channels)``, of 32x32 originally.
          train: without effect.
        """
        del train
        conv = functools.partial(
            _layers.conv, bias=True, padding=0, dtype=self.dtype, kernel=5
        )
        for index, features in enumerate(self.widths, start=1):
            x = self.act(conv(features, name=f"conv{index}")(x))
            x = _layers.max_pool(x, 2, 2)
        x = x.reshape(x.shape[0], -1)
        for index, features in enumerate(self.hidden, start=1):
            layer = _layers.dense(features, dtype=self.dtype, name=f"dense{index}")
            x = self.act(layer(x))
        return _layers.head(x, self.num_classes, self.dtype)


class Autoencoder(nn.Module):
    """Dense layers down to a code and, mirrored, up again.

    Attributes:
      hidden: widths of the encoder; the last is the code, which is linear.
      act: the activation.
      dtype: of the computation; parameters are float32.
      dropout: rate on the inputs, for a denoising autoencoder.

    References:
      Hinton and Salakhutdinov, Reducing the Dimensionality of Data with Neural
      Networks, 2006
    """

    hidden: tuple[int, ...] = (1000, 500, 250, 30)
    act: Activation = nn.sigmoid
    dtype: jax.typing.DTypeLike | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Checks the attributes."""
        check_number("dropout", self.dropout, minimum=0, below=1)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        """Returns the logits of the pixels, as large as the input.

        Args:
          x: images or vectors, batch first.
          train: whether to drop.
        """
        shape, flat = x.shape, x.reshape(x.shape[0], -1)
        dense = functools.partial(
            nn.Dense, kernel_init=nn.initializers.glorot_normal(), dtype=self.dtype
        )
        y = nn.Dropout(self.dropout, deterministic=not train)(flat)
        for index, features in enumerate(self.hidden, start=1):
            y = dense(features, name=f"encoder{index}")(y)
            y = y if index == len(self.hidden) else self.act(y)
        for index, features in enumerate(reversed(self.hidden[:-1]), start=1):
            y = self.act(dense(features, name=f"decoder{index}")(y))
        y = dense(flat.shape[-1], name=f"decoder{len(self.hidden)}")(y)
        return _layers.logits(y.reshape(shape))


logistic_regression = functools.partial(MLP, hidden=())
mlp = MLP
lenet = LeNet
autoencoder = Autoencoder

mlp_tiny = functools.partial(MLP, hidden=(6,))
lenet_tiny = functools.partial(LeNet, widths=(2, 4), hidden=(6,))
autoencoder_tiny = functools.partial(Autoencoder, hidden=(6, 3))
