"""Landscapes: functions of two parameters with known minima, to watch methods on."""

from optax_ia.landscape._test_functions import beale as beale
from optax_ia.landscape._test_functions import schubert as schubert
