"""Sums over an epoch of what the steps of both networks of a GAN measure."""

import functools
import math

import jax
import jax.numpy as jnp

from experiments.loops._skip import add_metrics

Metrics = dict[str, jax.Array]

RoundMetrics = tuple[list[Metrics], Metrics]
"""Those of each step of the critic, and those of the generator's."""

# What an epoch sums up, and its name among the metrics of a step.
_OF_CRITIC = {
    "loss": "loss",
    "distance": "distance",
    "penalty": "penalty",
    "critic_gradient_norm": "gradient_norm",
    "critic_update_norm": "update_norm",
}
_OF_GENERATOR = {
    "generator_loss": "loss",
    "gradient_norm": "gradient_norm",
    "update_norm": "update_norm",
}
_SKIPPED = ("skipped", "critic_skipped", "generator_skipped")


def zero_totals(skip: bool = False) -> Metrics:
    """The sums of an epoch at its start.

    Args:
      skip: count updates that are left out, of both networks, and of each.

    Returns:
      Zeros by name.
    """
    names = (*_OF_CRITIC, *_OF_GENERATOR, *(_SKIPPED if skip else ()))
    return {name: jnp.zeros((), jnp.float32) for name in names}


def add_totals(totals: Metrics, metrics: RoundMetrics) -> Metrics:
    """The sums of an epoch with the metrics of a round.

    Args:
      totals: so far; donated. Where they count updates that are left out, they are sums
        over all others; else over rounds, of means over the critic's steps.
      metrics: of the round.

    Returns:
      The new ones.
    """
    if "skipped" in totals:
        return _add_taken(totals, *metrics)
    return _add(totals, _means(*metrics))


@functools.partial(jax.jit, donate_argnums=0)
def _add(totals: Metrics, new: Metrics) -> Metrics:
    return {name: total + new[name] for name, total in totals.items()}


@jax.jit
def _means(of_critic: list[Metrics], of_generator: Metrics) -> Metrics:
    """Means over the critic's steps; the generator's as they are."""
    means = {
        name: jnp.stack([metrics[of] for metrics in of_critic]).mean()
        for name, of in _OF_CRITIC.items()
    }
    return means | {name: of_generator[of] for name, of in _OF_GENERATOR.items()}


@functools.partial(jax.jit, donate_argnums=0)
def _add_taken(
    totals: Metrics, of_critic: list[Metrics], of_generator: Metrics
) -> Metrics:
    def with_steps(network: str, names: dict[str, str], steps: list[Metrics]):
        own = {of: totals[name] for name, of in names.items()}
        own["skipped"] = totals[f"{network}_skipped"]
        for metrics in steps:
            own = add_metrics(own, metrics)
        added = {name: own[of] for name, of in names.items()}
        return added | {f"{network}_skipped": own["skipped"]}

    new = with_steps("critic", _OF_CRITIC, of_critic)
    new |= with_steps("generator", _OF_GENERATOR, [of_generator])
    return new | {"skipped": new["critic_skipped"] + new["generator_skipped"]}


def means_of_taken(totals: Metrics, rounds: int, critic_steps: int) -> dict[str, float]:
    """Means over the updates that were not left out, network by network.

    Args:
      totals: at the end of an epoch, from ``zero_totals(skip=True)``.
      rounds: of the epoch.
      critic_steps: of a round.

    Returns:
      Those by name, NaN where no update was taken; and ``critic_skipped``, a count.
    """
    known = {name: float(total) for name, total in jax.device_get(totals).items()}
    taken = {
        "critic": rounds * critic_steps - known["critic_skipped"],
        "generator": rounds - known["generator_skipped"],
    }
    means = {"critic_skipped": known["critic_skipped"]}
    for network, names in (("critic", _OF_CRITIC), ("generator", _OF_GENERATOR)):
        count = taken[network]
        means |= {name: known[name] / count if count else math.nan for name in names}
    return means
