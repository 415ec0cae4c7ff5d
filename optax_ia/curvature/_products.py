"""Products of Hessian, Gauss-Newton and Fisher matrices with vectors, on whole data."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optax_ia._src.scalars import default_float
from optax_ia.curvature._batches import Batches, as_batches
from optax_ia.curvature._lanczos import vdot
from optax_ia.curvature._loss import (
    checked_outputs,
    mean_loss,
    parts,
    scalar_loss,
)
from optax_ia.curvature._operator import Operator, check_real


def _accumulated(
    product: Callable[[Any, Any, Any], Any], params: Any, batches: Batches
) -> Operator:
    """The mean of a product over batches, each weighed by its number of examples.

    A loop on the host over one compiled product: a convolution's inside one of the
    compiler's loops would be twenty times slower on CPU.
    """
    params = check_real(params)
    iterate = as_batches(batches)

    def apply(vector):
        total = None
        for batch, share in iterate():
            value = product(params, batch, vector)
            weight = jnp.asarray(share, default_float())
            if total is None:
                total = value if share == 1 else _scaled(weight, value)
            else:
                total = _added(total, weight, value)
        if total is None:
            raise ValueError(
                "batches gave none this time: a function must return a fresh iterable "
                "at each call."
            )
        return total

    return Operator(apply, params)


@functools.partial(jax.jit, donate_argnums=1)
def _scaled(weight, value):
    return jax.tree.map(lambda x: weight.astype(x.dtype) * x, value)


@functools.partial(jax.jit, donate_argnums=0)
def _added(total, weight, value):
    return jax.tree.map(lambda t, x: t + weight.astype(x.dtype) * x, total, value)


@functools.partial(jax.jit, static_argnames="loss_fn")
def _hessian_product(params, batch, vector, *, loss_fn):
    """Forward over reverse: 1.9 gradients; reverse over reverse takes 6.4."""
    gradient = jax.grad(mean_loss(loss_fn))
    return jax.jvp(lambda p: gradient(p, batch), (params,), (vector,))[1]


def hessian_operator(loss_fn: Any, params: Any, batches: Batches) -> Operator:
    r"""The Hessian of the mean loss over all batches.

    .. math::
      v \mapsto \sum_b \frac{n_b}{N}\, \nabla^2 L_b(w)\, v

    Args:
      loss_fn: ``loss_fn(params, batch)``, the mean loss over a batch, or a pair
        ``(logits_fn, output_loss)`` as in :class:`NetworkLoss`. Pass the same object
        again: compiled products are found by it.
      params: :math:`w`, a tree of real floating-point arrays.
      batches: one batch (an array, a dict or a tuple that holds an array), a list of
        batches, or a function that returns an iterable of them for each product. Those
        of one shape share a program; data sharded over a mesh stay so.

    Returns:
      The operator; a product costs about two gradients. Where the loss is NaN so are
      the products: :func:`lanczos` refuses them, :func:`trace` passes them on.

    Raises:
      ValueError: if ``params`` or ``batches`` is empty.
      TypeError: if a parameter is complex or of integers.

    Example:
      >>> import jax.numpy as jnp
      >>> from optax_ia import curvature
      >>> loss = lambda w, batch: jnp.mean((batch @ w) ** 2) / 2
      >>> data = [jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 1.0], [0.0, 1.0]])]
      >>> hessian = curvature.hessian_operator(loss, jnp.ones(2), iter(data))
      >>> print(hessian(jnp.ones(2)))  # (4/3, 2/3): the second batch counts twice
      [1.3333334 0.6666667]

    References:
      Pearlmutter, Fast Exact Multiplication by the Hessian, 1994.
    """
    product = functools.partial(_hessian_product, loss_fn=scalar_loss(loss_fn))
    return _accumulated(product, params, batches)


@functools.partial(jax.jit, static_argnames=("logits_fn", "output_loss"))
def _gauss_newton_product(params, batch, vector, *, logits_fn, output_loss):
    outputs, tangent = jax.jvp(
        lambda p: checked_outputs(logits_fn(p, batch)), (params,), (vector,)
    )
    gradient = jax.grad(mean_loss(output_loss))
    curved = jax.jvp(lambda z: gradient(z, batch), (outputs,), (tangent,))[1]
    return jax.vjp(lambda p: logits_fn(p, batch), params)[1](curved)[0]


def gauss_newton_operator(loss_fn: Any, params: Any, batches: Batches) -> Operator:
    r"""The generalised Gauss-Newton matrix: the Hessian without the network's own.

    With outputs :math:`z(w)`, their Jacobian :math:`J` and the loss :math:`\ell(z)`,

    .. math::
      v \mapsto J^T\, \nabla^2_z \ell\, J\, v,

    positive semidefinite where :math:`\ell` is convex. For cross entropy on logits, and
    for squared error, it is the Fisher matrix.

    Args:
      loss_fn: the pair ``(logits_fn, output_loss)`` of :class:`NetworkLoss`.
      params: see :func:`hessian_operator`.
      batches: see :func:`hessian_operator`.

    Returns:
      The operator.

    Raises:
      ValueError: if ``params`` or ``batches`` is empty.
      TypeError: if the loss is not in two parts, or a parameter not real.

    Example:
      >>> import jax.numpy as jnp
      >>> from optax_ia import curvature
      >>> loss = (lambda w, x: x * w**2, lambda z, x: jnp.mean(z**2) / 2)
      >>> w, x = jnp.array(3.0), jnp.array([1.0])
      >>> print(curvature.gauss_newton_operator(loss, w, x)(jnp.array(1.0)))  # (2 w)^2
      36.0
      >>> print(curvature.hessian_operator(loss, w, x)(jnp.array(1.0)))  # 6 w^2
      54.0

    References:
      Schraudolph, Fast Curvature Matrix-Vector Products for Second-Order Gradient
      Descent, 2002.
    """
    logits_fn, output_loss = parts(loss_fn, "gauss_newton_operator")
    product = functools.partial(
        _gauss_newton_product, logits_fn=logits_fn, output_loss=output_loss
    )
    return _accumulated(product, params, batches)


def example_gradients(outputs, batch, output_loss):
    """Each example's gradient of its own loss with respect to its outputs."""
    return outputs.shape[0] * jax.grad(mean_loss(output_loss))(outputs, batch)


@functools.partial(jax.jit, static_argnames=("logits_fn", "output_loss"))
def _outer_product(params, batch, vector, *, logits_fn, output_loss):
    """The mean of per-example gradients' outer products, times a vector."""
    outputs, tangent = jax.jvp(
        lambda p: checked_outputs(logits_fn(p, batch)), (params,), (vector,)
    )
    rows = example_gradients(outputs, batch, output_loss)
    axes = tuple(range(1, rows.ndim))
    along = jnp.sum(rows * tangent, axis=axes, keepdims=True)
    cotangent = rows * along / rows.shape[0]
    return jax.vjp(lambda p: logits_fn(p, batch), params)[1](cotangent)[0]


def _sampled(batch, outputs, key):
    """The batch with labels drawn from the model: integers under a softmax."""
    labels = jax.random.categorical(key, outputs)
    if isinstance(batch, dict):
        names = [name for name in ("label", "labels", "y") if name in batch]
        if len(names) == 1:
            return {**batch, names[0]: labels}
    elif isinstance(batch, tuple) and len(batch) >= 2:
        return (batch[0], labels, *batch[2:])
    raise ValueError(
        "labels are replaced in (inputs, labels) tuples and in dicts with 'label', "
        "'labels' or 'y'; for other batches pass sample_fn=."
    )


@functools.partial(jax.jit, static_argnames=("logits_fn", "draw"))
def _drawn(params, batch, key, *, logits_fn, draw):
    return draw(batch, checked_outputs(logits_fn(params, batch)), key)


def fisher_operator(
    loss_fn: Any,
    params: Any,
    batches: Batches,
    *,
    key: jax.Array | None = None,
    empirical: bool = False,
    sample_fn: Callable[[Any, jax.Array, jax.Array], Any] | None = None,
) -> Operator:
    r"""The Fisher matrix: the mean outer product of the examples' gradients.

    .. math::
      v \mapsto \frac{1}{N} \sum_i g_i g_i^T v,\qquad
      g_i = \nabla_w \ell(z_i(w), y_i)

    with labels :math:`y_i` drawn once from the model's own distribution (one for each
    example, an unbiased estimate of the Fisher matrix, always the same for one key), or
    the data's labels for the *empirical* Fisher. The loss must be the negative
    logarithm of the likelihood.

    Args:
      loss_fn: the pair ``(logits_fn, output_loss)`` of :class:`NetworkLoss`.
      params: see :func:`hessian_operator`.
      batches: see :func:`hessian_operator`.
      key: draws the labels; not used if ``empirical``.
      empirical: take the data's labels.
      sample_fn: ``sample_fn(batch, outputs, key)`` gives the batch with drawn labels;
        None draws integers from the softmax of the outputs.

    Returns:
      The operator.

    Raises:
      ValueError: if ``params`` or ``batches`` is empty, a key is missing, or labels
        cannot be replaced in such batches.
      TypeError: if the loss is not in two parts, or a parameter not real.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> from optax_ia import curvature
      >>> def cross_entropy(z, batch):
      ...     losses = optax.softmax_cross_entropy_with_integer_labels(z, batch[1])
      ...     return losses.mean()
      >>> loss = (lambda w, batch: batch[0] @ w, cross_entropy)
      >>> x = jax.random.normal(jax.random.key(0), (2000, 3))
      >>> batch, w = (x, jnp.zeros(2000, int)), jnp.zeros((3, 4))
      >>> v = jnp.ones((3, 4)).at[0].set(jnp.arange(4.0))
      >>> fisher = curvature.fisher_operator(loss, w, batch, key=jax.random.key(1))
      >>> exact = curvature.gauss_newton_operator(loss, w, batch)
      >>> bool(jnp.abs(fisher(v) - exact(v)).max() < 0.05)
      True

    References:
      Martens, `New Insights and Perspectives on the Natural Gradient Method
      <https://arxiv.org/abs/1412.1193>`_, 2020, sections 5 and 11.
    """
    logits_fn, output_loss = parts(loss_fn, "fisher_operator")
    product = functools.partial(
        _outer_product, logits_fn=logits_fn, output_loss=output_loss
    )
    if empirical:
        return _accumulated(product, params, batches)
    if key is None:
        raise ValueError(
            "fisher_operator needs key= to draw labels, or empirical=True."
        )
    draw = sample_fn or _sampled
    iterate = as_batches(batches)

    def drawn():
        for number, (batch, _) in enumerate(iterate()):
            own = jax.random.fold_in(key, number)
            yield _drawn(params, batch, own, logits_fn=logits_fn, draw=draw)

    # drawn once and kept, unless the data themselves are not
    return _accumulated(product, params, drawn if callable(batches) else list(drawn()))


@functools.partial(jax.jit, static_argnames="loss_fn")
def _gradient(params, batch, *, loss_fn):
    return jax.grad(mean_loss(loss_fn))(params, batch)


def gradient_covariance_operator(
    loss_fn: Any, params: Any, batches: Batches
) -> Operator:
    r"""The covariance of the examples' gradients.

    .. math::
      v \mapsto \frac1N\sum_i g_i g_i^T v - \bar g\, \bar g^T v,\qquad
      \bar g = \frac1N \sum_i g_i,

    with the data's labels: the noise of SGD with batches of one.

    Args:
      loss_fn: the pair ``(logits_fn, output_loss)`` of :class:`NetworkLoss`.
      params: see :func:`hessian_operator`.
      batches: see :func:`hessian_operator`.

    Returns:
      The operator.

    Raises:
      ValueError: if ``params`` or ``batches`` is empty.
      TypeError: if the loss is not in two parts, or a parameter not real.

    Example:
      >>> import jax.numpy as jnp
      >>> from optax_ia import curvature
      >>> loss = (lambda w, x: w - x, lambda z, x: jnp.mean(z**2) / 2)
      >>> covariance = curvature.gradient_covariance_operator(
      ...     loss, jnp.array(7.0), jnp.array([1.0, 3.0])
      ... )
      >>> print(covariance(jnp.array(1.0)))
      1.0

    References:
      Granziol et al., Explaining the Adaptive Generalisation Gap, 2021, section 2.
    """
    second = fisher_operator(loss_fn, params, batches, empirical=True)
    whole = scalar_loss(parts(loss_fn, "gradient_covariance_operator"))
    mean: Any = None
    for batch, share in as_batches(batches)():
        weight = jnp.asarray(share, default_float())
        value = _gradient(params, batch, loss_fn=whole)
        mean = _scaled(weight, value) if mean is None else _added(mean, weight, value)

    return Operator(lambda vector: _centred(second(vector), mean, vector), params)


@functools.partial(jax.jit, donate_argnums=0)
def _centred(product: Any, mean: Any, vector: Any) -> Any:
    """A product of the second moment, less that of the mean's outer product."""
    along = vdot(mean, vector)
    return jax.tree.map(lambda s, m: s - along.astype(m.dtype) * m, product, mean)
