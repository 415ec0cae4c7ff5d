"""Training on many devices and many hosts, by ``jax.jit`` over a mesh.

A program is written once, for a whole batch and whole parameters. Where they lie is
said by shardings, and the compiler adds the communication: so every optimiser works,
and the numbers are those of one device up to rounding.
"""

from experiments.parallel._hosts import ParallelArguments as ParallelArguments
from experiments.parallel._hosts import begin as begin
from experiments.parallel._hosts import is_leader as is_leader
from experiments.parallel._hosts import leader_alone_prints as leader_alone_prints
from experiments.parallel._hosts import prepare_folder as prepare_folder
from experiments.parallel._placement import Placement as Placement
from experiments.parallel._placement import place_over as place_over
from experiments.parallel._replicas import per_replica as per_replica
from experiments.parallel._state import apply_in_place as apply_in_place
from experiments.parallel._state import in_place as in_place
