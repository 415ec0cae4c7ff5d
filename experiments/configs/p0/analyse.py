"""Curvature, landscape and diversity of one run, as P0 looks at its solutions.

Paper: Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
Methods, 2021; tables 9 and 15 (sharpness of iterate and average), fig. 3 (ensembles),
fig. 4 (diversity of the iterates), fig. 5 (effective learning rate). R_est-curv is that
of Granziol et al., Explaining the Adaptive Generalisation Gap, 2021, section 3.1.

Which H: that of the mean cross entropy over the whole training split, without decay,
without augmentation, in evaluation mode. Batch statistics are constants of it: the
running ones for the last iterate, for the average those estimated anew. The paper takes
networks without batch normalisation here; with it, scaling a kernel changes H and not
the network, so compare iterate and average of a run rather than networks.

Normalisation: tables 9 and 15 print tr H / P as trace, and under Frobenius norm what
can only be ||H||_F^2 / P, the mean squared eigenvalue: with P = 15 million, ||H||_F / P
would mean norms above the trace (SGD: 180 against 70), which a matrix with hardly any
negative eigenvalues cannot have. The spectral norm is not normalised.

What the paper reports (table 15, VGG-16 without batch normalisation on CIFAR-100;
iterates in brackets), spectral norm, Frobenius norm, trace:

=============  ===========  ==================  ==================
AdamW          62           9.3e-4              4.7e-5
Gadam, 3e-5    120 (2500)   1.4e-3 (0.86)       6.4e-5 (2.2e-3)
Gadam, 3e-4    43 (280)     1.1e-3 (0.023)      1.1e-4 (5.1e-4)
SGD            4.40         1.2e-5              4.7e-6
SWA, 3e-3      1.85 (14.6)  4.4e-6 (1.3e-4)     1.1e-6 (8.6e-5)
SWA, 3e-2      1.35 (12.0)  8.4e-6 (7.0e-5)     1.8e-5 (9.8e-5)
=============  ===========  ==================  ==================

Expected: the average flatter than the last iterate by all three.

Hours: 0.05 on two cores for a run of ``compare``. Commands::

  python -m experiments analyse RUN
  python -m experiments analyse RUN --optimizer swa --seed 1
  python -m experiments analyse RUN --statistics kept --max-loss 1
"""

import dataclasses
import math
from typing import Literal

from experiments.errors import ExperimentError

Scale = Literal["linear", "log"]


@dataclasses.dataclass(frozen=True)
class AnalyseConfig:
    """How closely to look."""

    probes: int = 2
    """Random vectors of the spectral density."""
    steps: int = 60
    """Lanczos steps for each, and for the sharpest direction."""
    trace_probes: int = 20
    """Random vectors for the trace, and as many for the Frobenius norm."""
    line_steps: int = 12
    """Steps from iterate to average; the line goes on for half as many either way."""
    surface_steps: int = 6
    """Steps from the centre of a surface to each edge."""
    surface_reach: float = 1.0
    """What is at the edges, in units of the filters' norms."""
    statistics: Literal["estimated", "kept"] = "estimated"
    """Batch statistics along the line and on the surfaces: estimated anew at every
    point, or kept from the last iterate (line) and from the centre (surface)."""
    line_scale: Scale = "linear"
    """Scale of the line's losses and errors."""
    surface_scale: Scale = "log"
    """Scale of the surface's losses."""
    max_loss: float | None = None
    """Losses above this one are not drawn on surfaces, which so show what is low (P2
    cuts at 0.1 to 10, mostly at 1.5); None draws all."""
    draw_seed: int = 0
    """Of the random vectors and directions."""


PRESETS = {
    "small": AnalyseConfig(),
    "smoke": AnalyseConfig(
        probes=2, steps=8, trace_probes=3, line_steps=2, surface_steps=1
    ),
}


def check(config: AnalyseConfig) -> None:
    """Checks every number.

    Args:
      config: how closely to look.

    Raises:
      ExperimentError: naming the argument, its bound and the value received.
    """
    least = {
        "probes": 1,
        "steps": 2,
        "trace_probes": 1,
        "line_steps": 1,
        "surface_steps": 1,
        "draw_seed": 0,
    }
    for name, bound in least.items():
        value = getattr(config, name)
        if value < bound:
            flag = "--" + name.replace("_", "-")
            raise ExperimentError(f"{flag} must be at least {bound}, got {value}")
    for name in ("surface_reach", "max_loss"):
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            flag = "--" + name.replace("_", "-")
            raise ExperimentError(f"{flag} must be above 0 and finite, got {value}")
