"""Explanations: diversity of solutions, ensembles, effective learning rates."""

from optax_ia.explain._diversity import Diversity as Diversity
from optax_ia.explain._diversity import solution_diversity as solution_diversity
from optax_ia.explain._diversity import symmetric_kl as symmetric_kl
from optax_ia.explain._diversity import total_variation as total_variation
from optax_ia.explain._effective_rate import (
    effective_learning_rate as effective_learning_rate,
)
from optax_ia.explain._ensemble import ensemble_logits as ensemble_logits
from optax_ia.explain._ensemble import ensemble_probabilities as ensemble_probabilities
