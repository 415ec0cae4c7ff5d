"""Observing the layers of an unmodified NNX model.

NNX has no interceptors: while a pass is traced, ``__call__`` of the layer classes is
replaced by one that looks whether its module belongs to the model observed, in this
thread, and is put back afterwards. A module is known by a tag on the copy of the model
that the pass runs: unlike its identity it lives on where ``nnx.scan`` and ``nnx.vmap``
take the module apart and put it together again.
"""

import contextlib
import dataclasses
import functools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from flax import nnx

from optax_ia._src.paths import path_string
from optax_ia.flax._kfac_observe import Observer
from optax_ia.flax._step_extras import Settings
from optax_ia.second_order._kfac_layers import KfacLayer

_KINDS: dict[type[nnx.Module], str] = {
    nnx.Linear: "dense",
    nnx.LinearGeneral: "general",
    nnx.Conv: "conv",
    nnx.Embed: "embed",
}
_TAG = "_kfac_tag"


class _Tag:
    """A layer of the pass being traced."""

    # Compared by identity: a model with new tags is traced anew under its own
    # ``nnx.jit``, whose programs would else hold values of an earlier pass.
    def __init__(self, layer: KfacLayer):
        self.layer = layer


class _Active(threading.local):
    observer: Observer | None = None


_ACTIVE = _Active()
_LOCK = threading.Lock()
_REPLACED: list[tuple[type[nnx.Module], str, Any]] = []
_USERS: Counter[str] = Counter()


def _call(kind: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """A layer's ``__call__`` that shows its calls to the active observer."""

    @functools.wraps(original)
    def call(self, *args, **kwargs):
        outputs = original(self, *args, **kwargs)
        observer, tag = _ACTIVE.observer, vars(self).get(_TAG)
        if observer is None or tag is None:
            return outputs
        inputs = args[0] if args else kwargs["inputs"]
        kernel = getattr(self, tag.layer.kernel)[...]
        return observer.layer(kind, tag.layer, self, kernel, inputs, outputs)

    return call


def _attend(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def attend(self, *args, **kwargs):
        observer, tag = _ACTIVE.observer, vars(self).get(_TAG)
        if observer is not None and tag is not None:
            observer.refuse(tag.layer.path, "used as an output layer too (attend)")
        return original(self, *args, **kwargs)

    return attend


def _replace(layer: type[nnx.Module], name: str, make: Callable[..., Any]) -> None:
    original = vars(layer)[name]
    _REPLACED.append((layer, name, original))
    setattr(layer, name, make(original))


@contextlib.contextmanager
def _observed(observer: Observer) -> Iterator[None]:
    """While this lasts, this thread's calls of tagged layers are shown."""
    with _LOCK:
        _USERS["passes"] += 1
        if not _REPLACED:
            for layer, kind in _KINDS.items():
                _replace(layer, "__call__", functools.partial(_call, kind))
            _replace(nnx.Embed, "attend", _attend)
    before, _ACTIVE.observer = _ACTIVE.observer, observer
    try:
        yield
    finally:
        _ACTIVE.observer = before
        with _LOCK:
            _USERS["passes"] -= 1
            while not _USERS["passes"] and _REPLACED:
                setattr(*_REPLACED.pop())


def _path(module: nnx.Module, name: str, paths: Mapping[int, str]) -> str | None:
    """The path of a module's parameter; None without one."""
    variable = vars(module).get(name)
    if not isinstance(variable, nnx.Variable):
        return None
    return paths.get(id(variable.get_raw_value()))


def _layer(
    module: nnx.Module, paths: Mapping[int, str], uses: Mapping[str | None, int]
) -> KfacLayer | str | None:
    """A module's path and names as a layer, or why it is none.

    Args:
      module: any module.
      paths: the identity of each parameter to its path.
      uses: a kernel's path to the number of modules that have it.
    """
    name = "embedding" if isinstance(module, nnx.Embed) else "kernel"
    own = _path(module, name, paths)
    if not isinstance(module, tuple(_KINDS)) or own is None:
        return None
    layer = KfacLayer(own.removesuffix(name).rstrip("/"), num_input_axes=1, kernel=name)
    if name == "kernel" and vars(module).get("bias") is not None:
        layer = dataclasses.replace(layer, bias="bias")
    shared = uses[own] > 1 or layer.leaf(name) != own
    if shared or layer.bias and _path(module, "bias", paths) != layer.leaf("bias"):
        return "its parameters are shared by several modules"
    return layer


def _tag(model: nnx.Module, params: Any, observer: Observer) -> None:
    """Tags the layers of a model and tells the observer of all its modules."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    paths = {id(leaf): path_string(path) for path, leaf in leaves}
    modules = [module for _, module in nnx.iter_modules(model)]
    changed = {
        id(inner): type(outer).__name__
        for outer in modules
        if isinstance(outer, nnx.WeightNorm | nnx.SpectralNorm)
        for _, inner in nnx.iter_modules(outer)
    }
    uses = Counter(
        _path(module, name, paths)
        for module in modules
        for name in ("kernel", "embedding")
    )
    for module in modules:
        parents = {
            path.rpartition("/")[0]
            for path in (_path(module, name, paths) for name in vars(module))
            if path is not None
        }
        layer = _layer(module, paths, uses)
        if isinstance(layer, KfacLayer) and id(module) in changed:
            layer = f"its kernel is changed by {changed[id(module)]}"
        for parent in parents:
            observer.called(parent, type(module).__name__)
            if isinstance(layer, str):
                observer.refuse(parent, layer)
        if isinstance(layer, KfacLayer):
            setattr(module, _TAG, _Tag(layer))


def nnx_pass(
    settings: Settings,
    graphdef: Any,
    wrt: Any,
    params: Any,
    others: Any,
    batch: Any,
    observer: Observer,
) -> tuple[Any, Any]:
    """One observed pass of a copy of a model.

    Args:
      settings: inputs and keyword arguments; ``train()`` is called if there are none.
      graphdef: of ``nnx.split(model, wrt, ...)``.
      wrt: the filter of the parameters.
      params: their tree of arrays.
      others: that of all other variables.
      batch: what the inputs are taken from.
      observer: sees the layers.

    Returns:
      The outputs, and what the pass leaves in the other variables.
    """
    copy = nnx.merge(graphdef, params, others)
    if settings.apply_kwargs is None:
        copy.train()
    _tag(copy, params, observer)
    with _observed(observer):
        outputs = copy(settings.inputs(batch), **(settings.apply_kwargs or {}))
    return outputs, nnx.as_pure(nnx.split(copy, wrt, ...)[2])
