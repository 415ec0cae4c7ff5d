"""The baselines of the papers: Optax's rules with decay and a recorded learning rate.

Each takes the same arguments as the methods of this package, checks them, and keeps its
current learning rate in the state, so that a comparison treats all optimisers alike.
The rules themselves are Optax's.
"""

from optax_ia.baselines._adam import adam as adam
from optax_ia.baselines._adam import adamw as adamw
from optax_ia.baselines._adam import amsgrad as amsgrad
from optax_ia.baselines._adam import yogi as yogi
from optax_ia.baselines._rectified import adabelief as adabelief
from optax_ia.baselines._rectified import radam as radam
from optax_ia.baselines._sgd import adagrad as adagrad
from optax_ia.baselines._sgd import rmsprop as rmsprop
from optax_ia.baselines._sgd import sgd as sgd
