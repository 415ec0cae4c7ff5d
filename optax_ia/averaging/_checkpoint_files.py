"""Arrays of checkpoint files by name: NumPy's .npz, .safetensors, Orbax directories."""

import contextlib
import importlib
import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optax_ia._src.paths import path_string

Arrays = Mapping[str, Callable[[], np.ndarray]]
"""The arrays of one file by name, each read when it is called for."""

_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(jnp.bfloat16),
    "F8_E4M3": np.dtype(jnp.float8_e4m3fn),
    "F8_E5M2": np.dtype(jnp.float8_e5m2),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(bool),
}
"""Dtypes by their names in safetensors files."""

_HEADER_LENGTH = struct.Struct("<Q")


@contextlib.contextmanager
def open_arrays(path: Path) -> Iterator[Arrays]:
    """The arrays in a file or an Orbax directory.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is in no known format, or damaged.
    """
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint {path}.")
    if path.is_dir():
        yield _orbax_arrays(path)
    elif path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            yield {name: lambda n=name: _known(path, n, file[n]) for name in file.files}
    elif path.suffix == ".safetensors":
        yield _safetensors_arrays(path)
    else:
        raise ValueError(
            f"{path} is no checkpoint: it must be a .npz or .safetensors file, or an "
            "Orbax directory."
        )


def _known(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "V":
        raise ValueError(
            f"{name!r} in {path} has dtype {array.dtype}: .npz files lose bfloat16 and "
            "float8. Save it as .safetensors."
        )
    return array


def _orbax_arrays(path: Path) -> Arrays:
    try:
        ocp: Any = importlib.import_module("orbax.checkpoint")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{path} is a directory, which Orbax reads: pip install orbax-checkpoint."
        ) from error
    with ocp.PyTreeCheckpointer() as checkpointer:
        try:
            tree: Any = checkpointer.metadata(path.resolve()).item_metadata.tree
            restore_args = jax.tree.map(
                lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree
            )
            restored = checkpointer.restore(
                path.resolve(), args=ocp.args.PyTreeRestore(restore_args=restore_args)
            )
        except (AttributeError, FileNotFoundError) as error:
            raise ValueError(
                f"{path} is no Orbax checkpoint of one tree. If it has several items, "
                "name the directory of one."
            ) from error
    leaves = jax.tree_util.tree_leaves_with_path(restored)
    return {path_string(at): lambda x=leaf: np.asarray(x) for at, leaf in leaves}


def _safetensors_arrays(path: Path) -> Arrays:
    data = np.memmap(path, np.uint8, mode="r")
    try:
        (length,) = _HEADER_LENGTH.unpack(bytes(data[: _HEADER_LENGTH.size]))
        begin = _HEADER_LENGTH.size + length
        header = json.loads(bytes(data[_HEADER_LENGTH.size : begin]))
    except (ValueError, struct.error) as error:
        raise ValueError(f"{path} is no safetensors file, or damaged.") from error
    header.pop("__metadata__", None)

    def read(name):
        entry = header[name]
        dtype = _DTYPES.get(entry["dtype"])
        if dtype is None:
            raise ValueError(f"{name!r} in {path} has dtype {entry['dtype']}.")
        first, last = (begin + offset for offset in entry["data_offsets"])
        size = math.prod(entry["shape"]) * dtype.itemsize
        if last > data.size or last - first != size:
            raise ValueError(f"{name!r} in {path} is cut off; the file is damaged.")
        return data[first:last].view(dtype).reshape(entry["shape"])

    return {name: lambda n=name: read(n) for name in header}


def safetensors_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The content of a safetensors file."""
    names = {dtype: name for name, dtype in _DTYPES.items()}
    header, parts, offset = {}, [], 0
    for name, array in arrays.items():
        if array.dtype not in names:
            raise ValueError(f"{name!r} has dtype {array.dtype}; write a .npz file.")
        parts.append(np.ascontiguousarray(array).tobytes())
        header[name] = {
            "dtype": names[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + len(parts[-1])],
        }
        offset += len(parts[-1])
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)  # the data begin at a multiple of eight
    return b"".join([_HEADER_LENGTH.pack(len(encoded)), encoded, *parts])
