"""Landscapes: functions of two parameters whose minima are known, to watch methods on."""

from optax_ia.landscape._test_functions import beale as beale
from optax_ia.landscape._test_functions import schubert as schubert
