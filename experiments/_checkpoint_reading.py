"""Reading one checkpoint: whole and as it was written, in all processes or in none."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from experiments._checksums import checksum_of_json, checksums_in_json


def read_checkpoint(path: Path, training: Any) -> tuple[Any, dict[str, Any]]:
    """Reads arrays and record of a checkpoint, and compares their checksums.

    Where several processes train together each calls it. What one of them cannot read,
    its own part of an array for instance, no other takes either: they would go on from
    different steps.

    Args:
      path: the checkpoint.
      training: tells structure, shapes, dtypes and shardings, which need not be those
        that were written.

    Returns:
      The arrays in the structure of ``training``, and the record.

    Raises:
      Exception: what storage raises.
      ValueError: if something is damaged, or cannot be read in another process.
    """
    try:
        found, record = _read_here(path, training)
    except Exception:
        _true_everywhere(False)
        raise
    if not _true_everywhere(True):
        raise ValueError("another process cannot read it")
    # From here on processes compute together, and see the same.
    sums = checksums_in_json(found)
    if sums != record["arrays"]:
        paths = [path for path, _ in jax.tree.leaves_with_path(training)]
        differ = zip(paths, sums, record["arrays"], strict=True)
        names = [jax.tree_util.keystr(path) for path, a, b in differ if a != b]
        raise ValueError(f"the array {names[0].lstrip('.')} is damaged")
    return found, record


def _read_here(path: Path, training: Any) -> tuple[Any, dict[str, Any]]:
    """Each process for itself: else Orbax waits, for ever if one of them has failed."""
    here = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=here, active_processes={here}
    )
    wanted = jax.tree.map(ocp.utils.to_shape_dtype_struct, training)
    items = ocp.args.Composite(
        training=ocp.args.StandardRestore(wanted), record=ocp.args.JsonRestore()
    )
    with ocp.Checkpointer(
        ocp.CompositeCheckpointHandler(), multiprocessing_options=alone
    ) as reader:
        restored = reader.restore(path, args=items)
    record = restored["record"]
    content = {name: record[name] for name in record if name != "checksum"}
    if checksum_of_json(content) != record["checksum"]:
        raise ValueError("its record is damaged")
    return restored["training"], record


def _true_everywhere(here: bool) -> bool:
    """Whether something is true in every process; all of them ask together."""
    return bool(np.all(multihost_utils.process_allgather(np.array(here))))
