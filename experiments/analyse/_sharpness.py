"""How sharp the loss is at a point: spectrum, norms, trace, R_est-curv."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from experiments.analyse._run import Trained
from experiments.configs.p0.analyse import AnalyseConfig
from optax_ia import curvature, registry
from optax_ia.curvature import BulkFit, Estimate, SpectralDensity


@dataclasses.dataclass(frozen=True)
class Sharpness:
    """What was found of a Hessian.

    Attributes:
      num_params: P.
      density: by stochastic Lanczos quadrature.
      bulk: a semicircle beside the peak at zero, fitted to it.
      spectral_norm: the largest absolute eigenvalue.
      residual: of its eigenvector.
      trace: by random signs.
      frobenius: the norm, likewise.
    """

    num_params: int
    density: SpectralDensity
    bulk: BulkFit
    spectral_norm: float
    residual: float
    trace: Estimate
    frobenius: Estimate

    @property
    def largest(self) -> float:
        """The largest eigenvalue that any probe found."""
        return float(self.density.nodes.max())

    @property
    def smallest(self) -> float:
        """The smallest one."""
        return float(self.density.nodes.min())

    @property
    def num_beyond(self) -> float:
        """How many eigenvalues are above -smallest: P times the weight of the nodes.

        Noise spreads as far to both sides of 0, so these are not noise.
        """
        nodes, weights = self.density.nodes, self.density.weights
        beyond = np.asarray(nodes) > -self.smallest
        share = np.asarray(weights, float)[beyond].sum() / len(nodes)
        return self.num_params * float(share)

    @property
    def num_outside(self) -> float:
        """How many eigenvalues are outside of the fitted semicircle, likewise."""
        return self.num_params * self.bulk.outlier_weight

    @property
    def mean_eigenvalue(self) -> float:
        """The trace over P: the trace of P0's tables 9 and 15."""
        return float(self.trace.mean) / self.num_params

    @property
    def mean_square(self) -> float:
        """The squared norm over P: the Frobenius norm of those tables."""
        return float(self.frobenius.mean) ** 2 / self.num_params


def num_products(config: AnalyseConfig, num_params: int) -> int:
    """How many products :func:`measure` takes, one by one."""
    steps = min(config.steps, num_params)
    return (config.probes + 1) * steps + 1 + 2 * config.trace_probes


def measure(
    loss_fn: Callable[..., Any],
    params: Any,
    batches: Any,
    config: AnalyseConfig,
    advance: Callable[[], None],
) -> Sharpness:
    """Measures a Hessian; random vectors are the same for every point.

    Args:
      loss_fn: the mean loss.
      params: the point.
      batches: the whole data.
      config: how closely.
      advance: called after each product.

    Returns:
      What was found.
    """
    hessian = curvature.hessian_operator(loss_fn, params, batches)

    def counted(vector):
        value = jax.block_until_ready(hessian(vector))
        advance()
        return value

    operator = curvature.Operator(counted, params)
    keys = jax.random.split(jax.random.key(config.draw_seed), 4)
    density = curvature.spectral_density(
        operator,
        params,
        num_probes=config.probes,
        num_steps=config.steps,
        key=keys[0],
    )
    top = curvature.top_eigenpairs(
        operator, params, 1, key=keys[1], num_steps=config.steps
    )
    return Sharpness(
        num_params=operator.dimension,
        density=density,
        bulk=curvature.fit_bulk(
            density.nodes,
            density.weights,
            num_params=operator.dimension,
            spike=0.0,
        ),
        spectral_norm=float(np.abs(top.eigenvalues[0])),
        residual=float(top.residuals[0]),
        trace=curvature.trace(operator, params, config.trace_probes, key=keys[2]),
        frobenius=curvature.frobenius_norm(
            operator, params, config.trace_probes, key=keys[3]
        ),
    )


@dataclasses.dataclass(frozen=True)
class Damping:
    """What an adaptive optimiser adds to its estimate of the curvature.

    Attributes:
      value: its eps.
      own: largest and smallest eigenvalue of its own estimate at the end of the run,
        the root of Adam's corrected second moment; None for another rule's.
    """

    value: float
    own: tuple[float, float] | None


def _argument(name: str, argument: str) -> Any:
    record = registry.get_record(name)
    if argument in record.defaults:
        return record.defaults[argument]
    parameters = inspect.signature(record.factory).parameters
    return parameters[argument].default if argument in parameters else None


def damping_of(trained: Trained) -> Damping | None:
    """The damping of a run's optimiser.

    Args:
      trained: the run.

    Returns:
      None for a rule without second moments, such as SGD, whose eps (where there is
      one) is no damping.
    """
    opt_state = trained.state.opt_state
    if not optax.tree.get_all_with_path(opt_state, "nu"):
        return None
    eps = _argument(trained.run.optimizer, "eps")
    if not isinstance(eps, float) or eps <= 0:
        return None
    adam = [
        node
        for node in jax.tree.leaves(
            opt_state, is_leaf=lambda node: isinstance(node, optax.ScaleByAdamState)
        )
        if isinstance(node, optax.ScaleByAdamState)
    ]
    b2 = _argument(trained.run.optimizer, "b2")
    if not adam or b2 is None:
        return Damping(eps, None)
    corrected = 1 - b2 ** float(np.asarray(adam[0].count))
    roots = [
        np.sqrt(np.asarray(leaf, float) / corrected)
        for leaf in jax.tree.leaves(adam[0].nu)
    ]
    largest = max(float(root.max()) for root in roots)
    smallest = min(float(root.min()) for root in roots)
    return Damping(eps, (largest, smallest))


def ratio(largest: float, smallest: float, damping: float) -> float:
    """R_est-curv; negative eigenvalues, which no damped method inverts, count as 0."""
    return float(curvature.curvature_ratio(largest, max(smallest, 0.0), damping))
