"""Which parameters of a model have Kronecker factors, and why the others have not."""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

import jax
from flax import nnx

from optax_ia.flax._batches import default_inputs
from optax_ia.flax._kfac_linen import linen_pass
from optax_ia.flax._kfac_nnx import nnx_pass
from optax_ia.flax._kfac_observe import Found
from optax_ia.flax._kfac_passes import apply_of, find
from optax_ia.flax._step_extras import Settings
from optax_ia.second_order._kfac_layers import MAX_DIM, KfacLayer, leaves_by_path


class ParameterTreatment(NamedTuple):
    """One row of :class:`KfacCoverage`.

    Attributes:
      path: of the parameter.
      shape: its shape.
      treatment: "kronecker", "diagonal inputs", "diagonal outputs" or "diagonal" (of
        both factors), or "gradient: " and the reason.
    """

    path: str
    shape: tuple[int, ...]
    treatment: str


@dataclasses.dataclass(frozen=True)
class KfacCoverage:
    """What K-FAC does with each parameter; prints as a table.

    Attributes:
      rows: one for each parameter, in the order of the tree.

    Example:
      >>> import optax_ia.flax
      >>> row = optax_ia.flax.ParameterTreatment("dense/kernel", (4, 2), "kronecker")
      >>> [treatment for _, _, treatment in optax_ia.flax.KfacCoverage((row,))]
      ['kronecker']
    """

    rows: tuple[ParameterTreatment, ...]

    def __iter__(self) -> Iterator[ParameterTreatment]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        table = [("parameter", "shape", "treatment")]
        table += [(row.path, str(row.shape), row.treatment) for row in self.rows]
        widths = [max(len(row[column]) for row in table) for column in (0, 1)]
        return "\n".join(
            f"{path:<{widths[0]}}  {shape:<{widths[1]}}  {treatment}"
            for path, shape, treatment in table
        )


def _settings(inputs, apply_kwargs, rngs) -> Settings:
    return Settings(
        needs=(),
        loss_fn=lambda outputs, batch: 0.0,
        inputs=inputs or default_inputs,
        prepare=None,
        apply_kwargs=None if apply_kwargs is None else dict(apply_kwargs),
        rngs=tuple(rngs),
        norms=False,
    )


def _look(model, arguments, inputs, apply_kwargs, rngs, max_dim) -> tuple[Any, Found]:
    """The parameters and what a pass shows of them, nothing being computed."""
    settings = _settings(inputs, apply_kwargs, rngs)
    if isinstance(model, nnx.Module) and len(arguments) == 1:
        graphdef, params, others = nnx.split(model, nnx.Param, ...)
        params, others = nnx.as_pure(params), nnx.as_pure(others)

        def run_nnx(params, observer, others, batch):
            return nnx_pass(
                settings, graphdef, nnx.Param, params, others, batch, observer
            )

        return params, find(run_nnx, params, max_dim, others, arguments[0])
    if not isinstance(model, nnx.Module) and len(arguments) == 2:
        variables, batch = arguments
        stats = None
        if isinstance(variables, Mapping) and "params" in variables:
            stats = variables.get("batch_stats")
            variables = variables["params"]
        key = jax.eval_shape(lambda: jax.random.key(0))

        def run_linen(params, observer, batch, key, stats):
            return linen_pass(
                settings, apply_of(model), params, batch, key, stats, observer
            )

        return variables, find(run_linen, variables, max_dim, batch, key, stats)
    raise TypeError(
        "takes (model, variables, batch) for Linen and (model, batch) for NNX, got a "
        f"{type(model).__name__} and {len(arguments)} more."
    )


def kfac_layers(
    model: Any,
    *arguments: Any,
    inputs: Callable[[Any], Any] | None = None,
    apply_kwargs: Mapping[str, Any] | None = None,
    rngs: Collection[str] = ("dropout",),
    max_dim: int = MAX_DIM,
) -> tuple[KfacLayer, ...]:
    """The layers of a model that have Kronecker factors.

    Call it as ``kfac_layers(model, variables, batch)`` for Linen and as
    ``kfac_layers(model, batch)`` for NNX, and pass the result to the optimiser where
    names and shapes of the parameters do not tell the layers: grouped convolutions,
    ``DenseGeneral`` without bias. Nothing is computed; shapes will do for arrays.

    Args:
      model: a Linen module or its ``apply``, or an NNX model.
      *arguments: for Linen its variables (or the parameters alone) and a batch; for
        NNX a batch.
      inputs: see :func:`kfac_value_and_grad`.
      apply_kwargs: see :func:`kfac_value_and_grad`.
      rngs: see :func:`kfac_value_and_grad`.
      max_dim: see :func:`kfac_value_and_grad`.

    Returns:
      One description for each layer, in the order of their calls.

    Raises:
      ValueError: if there is none.
      TypeError: if the arguments fit neither form.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, optax_ia, optax_ia.flax
      >>> model = nn.Conv(4, (3, 3), feature_group_count=2)
      >>> x = jnp.ones((1, 5, 5, 6))
      >>> params = model.init(jax.random.key(0), x)["params"]
      >>> layers = optax_ia.flax.kfac_layers(model, params, x, apply_kwargs={})
      >>> print(layers[0].groups, layers[0].num_input_axes)
      2 3
      >>> tx = optax_ia.kfac(1e-2, damping=1e-2, layers=layers)

    References:
      Grosse, Martens, `A Kronecker-factored Approximate Fisher Matrix for Convolution
      Layers <https://arxiv.org/abs/1602.01407>`_, 2016.
    """
    _, found = _look(model, arguments, inputs, apply_kwargs, rngs, max_dim)
    return tuple(rule.layer for rule in found.rules.values())


def _treatment(layer: KfacLayer) -> str:
    names = {
        (False, False): "kronecker",
        (True, False): "diagonal inputs",
        (False, True): "diagonal outputs",
        (True, True): "diagonal",
    }
    return names[layer.diagonal_inputs, layer.diagonal_outputs]


def kfac_coverage(
    model: Any,
    *arguments: Any,
    inputs: Callable[[Any], Any] | None = None,
    apply_kwargs: Mapping[str, Any] | None = None,
    rngs: Collection[str] = ("dropout",),
    max_dim: int = MAX_DIM,
) -> KfacCoverage:
    """Lists each parameter of a model and what K-FAC does with it.

    Call it as ``kfac_coverage(model, variables, batch)`` for Linen and as
    ``kfac_coverage(model, batch)`` for NNX. Nothing is computed; shapes will do for
    arrays.

    Args:
      model: see :func:`kfac_layers`.
      *arguments: see :func:`kfac_layers`.
      inputs: see :func:`kfac_value_and_grad`.
      apply_kwargs: see :func:`kfac_value_and_grad`.
      rngs: see :func:`kfac_value_and_grad`.
      max_dim: see :func:`kfac_value_and_grad`.

    Returns:
      The table.

    Raises:
      ValueError: if no layer has Kronecker factors.
      TypeError: if the arguments fit neither form.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, optax_ia.flax
      >>> model = nn.Sequential([nn.Dense(4), nn.LayerNorm(), nn.Dense(2)])
      >>> x = jnp.ones((1, 3))
      >>> variables = model.init(jax.random.key(0), x)
      >>> print(optax_ia.flax.kfac_coverage(model, variables, x, apply_kwargs={}))
      parameter        shape   treatment
      layers_0/bias    (4,)    kronecker
      layers_0/kernel  (3, 4)  kronecker
      layers_1/bias    (4,)    gradient: no rule for LayerNorm
      layers_1/scale   (4,)    gradient: no rule for LayerNorm
      layers_2/bias    (2,)    kronecker
      layers_2/kernel  (4, 2)  kronecker

    References:
      Martens, Grosse, `Optimizing Neural Networks with Kronecker-factored Approximate
      Curvature <https://arxiv.org/abs/1503.05671>`_, 2015.
    """
    params, found = _look(model, arguments, inputs, apply_kwargs, rngs, max_dim)
    captured = {
        leaf: _treatment(rule.layer)
        for rule in found.rules.values()
        for leaf in rule.layer.leaves
    }
    rows = []
    for path, leaf in leaves_by_path(params)[0].items():
        reason = found.reason(path.rpartition("/")[0])
        treatment = captured.get(path, f"gradient: {reason}")
        rows.append(ParameterTreatment(path, tuple(leaf.shape), treatment))
    return KfacCoverage(tuple(rows))
