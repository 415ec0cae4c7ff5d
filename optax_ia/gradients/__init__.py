"""What changes the gradient before the rule sees it."""

from optax_ia.gradients._centralize import centralize as centralize
