"""RMSGD: momentum SGD at rates that follow the stable ranks of the layers."""

from collections.abc import Sequence

import jax
import optax

from optax_ia._src import checks
from optax_ia._src.arguments import Choice, Integer, Number, Unchecked, checked
from optax_ia._src.types import Mask
from optax_ia.adaptive._layer_rates import scale_by_layer_rates
from optax_ia.decay import l2_decay
from optax_ia.explain._layer_metrics import Power


@checked(
    beta=Number(minimum=0, below=1),
    zeta=Number(minimum=0),
    steps_per_epoch=Integer(minimum=1, optional=True),
    floor=Number(minimum=0),
    power=Choice((1, 2)),
    order=Unchecked(),
)
def rmsgd(
    learning_rate: optax.ScalarOrSchedule = 0.03,
    momentum: jax.typing.ArrayLike = 0.9,
    beta: jax.typing.ArrayLike = 0.98,
    zeta: jax.typing.ArrayLike = 1.0,
    *,
    steps_per_epoch: jax.typing.ArrayLike | None,
    floor: jax.typing.ArrayLike = 1e-10,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
    power: Power = 1,
    order: Sequence[str] | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""SGD with momentum at layer-wise rates that follow the gain in stable rank.

    With :math:`\eta_t` of :func:`scale_by_layer_rates`, set for each layer once an
    epoch from its kernel alone, and the gradient g with L2 decay,

    .. math::
      v \leftarrow \alpha v - \eta_t\, g,\quad w \leftarrow w + v.

    The rate stands inside the momentum. There is no schedule to tune: rates rise while
    layers learn, and decay by :math:`\beta` an epoch once they do not.

    Args:
      learning_rate: the rate of all layers until one has learned something, and of
        parameters of no layer: a number >= 0 or a schedule.
      momentum: :math:`\alpha` in [0, 1).
      beta: decay of the rates in an epoch, in [0, 1).
      zeta: multiplies the gain in stable rank, >= 0.
      steps_per_epoch: updates in an epoch, an integer >= 1; under
        ``optax.MultiSteps`` those of the inner optimiser. The measurement stands in a
        ``lax.cond`` inside ``update``, which needs ``params``. None: only when
        :func:`update_layer_rates` is called.
      floor: the smallest rate, >= 0.
      weight_decay: L2 decay >= 0, a number or a schedule; 5e-4 in the paper.
      mask: which parameters decay; None decays all.
      power: of the stable rank, 1 or 2.
      order: paths of the modules in the order of their calls, for the rates of norms;
        None goes by names. See :func:`scale_by_layer_rates`. Static.

    Returns:
      The transformation. State: a tree like the parameters, and two scalars a layer.
      :func:`diagnostics` has the rate and the stable rank of every layer.

    Raises:
      ValueError: if a concrete argument is out of its range, or ``order`` leaves out a
        module that it must name.

    Example:
      A linear map is learned from noise; its rate leaves 0.03 as its rank shows:

      >>> import jax, jax.numpy as jnp, optax, optax_ia
      >>> keys = jax.random.split(jax.random.key(0), 3)
      >>> left = jax.random.normal(keys[0], (16, 4))
      >>> target = left @ jax.random.normal(keys[1], (4, 32))
      >>> params = {"kernel": 0.1 * jax.random.normal(keys[2], (16, 32))}
      >>> tx = optax_ia.rmsgd(steps_per_epoch=10)
      >>> state = tx.init(params)
      >>> @jax.jit
      ... def step(params, state):
      ...     grads = {"kernel": params["kernel"] - target}
      ...     updates, state = tx.update(grads, state, params)
      ...     return optax.apply_updates(params, updates), state
      >>> for _ in range(200):
      ...     params, state = step(params, state)
      >>> rate = optax_ia.diagnostics(state)["learning_rate/kernel"]
      >>> bool(rate > 0.03), bool(abs(params["kernel"] - target).max() < 1e-2)
      (True, True)

    .. note::
      See :func:`scale_by_layer_rates` for what the released code does otherwise; it
      also has the rate outside the momentum. P4 uses no learning rate schedule here.

    References:
      Hosseini, Tuli, Plataniotis, `Exploiting Explainable Metrics for Augmented SGD
      <https://arxiv.org/abs/2203.16723>`_, 2022, Algorithm 1; rates and decay of
      appendix E.2.1.
    """
    checks.check_number("momentum", momentum, minimum=0, below=1)
    return optax.chain(
        l2_decay(weight_decay, mask),
        scale_by_layer_rates(
            learning_rate,
            beta,
            zeta,
            steps_per_epoch=steps_per_epoch,
            floor=floor,
            power=power,
            order=order,
        ),
        optax.trace(momentum),
    )
