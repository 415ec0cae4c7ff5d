"""What changes the gradient before the rule sees it."""

from optax_ia.gradients._centralize import centralize as centralize
from optax_ia.gradients._line_search import LineSearchState as LineSearchState
from optax_ia.gradients._line_search import sls as sls
from optax_ia.gradients._sam import sam as sam
from optax_ia.gradients._svrg import SvrgState as SvrgState
from optax_ia.gradients._svrg import svrg as svrg
from optax_ia.gradients._svrg import svrg_snapshot_due as svrg_snapshot_due
