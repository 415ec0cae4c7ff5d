"""Landscapes: a network's loss on lines and planes, and two functions of the plane."""

from optax_ia.landscape._directions import between as between
from optax_ia.landscape._directions import directions as directions
from optax_ia.landscape._directions import from_eigenvectors as from_eigenvectors
from optax_ia.landscape._evaluate import Line as Line
from optax_ia.landscape._evaluate import Surface as Surface
from optax_ia.landscape._evaluate import line as line
from optax_ia.landscape._evaluate import surface as surface
from optax_ia.landscape._test_functions import beale as beale
from optax_ia.landscape._test_functions import schubert as schubert
from optax_ia.landscape._trajectory import Trajectory as Trajectory
from optax_ia.landscape._trajectory import from_trajectory as from_trajectory
