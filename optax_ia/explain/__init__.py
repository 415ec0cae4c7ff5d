"""Explanations: learned ranks of layers, diversity of solutions, effective rates."""

from optax_ia.explain._diversity import Diversity as Diversity
from optax_ia.explain._diversity import solution_diversity as solution_diversity
from optax_ia.explain._diversity import symmetric_kl as symmetric_kl
from optax_ia.explain._diversity import total_variation as total_variation
from optax_ia.explain._effective_rate import (
    effective_learning_rate as effective_learning_rate,
)
from optax_ia.explain._ensemble import ensemble_logits as ensemble_logits
from optax_ia.explain._ensemble import ensemble_probabilities as ensemble_probabilities
from optax_ia.explain._evbmf import LowRank as LowRank
from optax_ia.explain._evbmf import evbmf as evbmf
from optax_ia.explain._layer_metrics import LayerMetrics as LayerMetrics
from optax_ia.explain._layer_metrics import UnfoldingMetrics as UnfoldingMetrics
from optax_ia.explain._layer_metrics import layer_metrics as layer_metrics
from optax_ia.explain._layer_metrics import network_quality as network_quality
