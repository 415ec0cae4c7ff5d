"""What stands between a model's layers: one observer finds them, one taps them."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optax_ia.flax._kfac_rules import Rule, rule_for
from optax_ia.flax._kfac_tap import Sums, tap
from optax_ia.second_order._kfac_layers import KfacLayer, leaves_by_path


class Found(NamedTuple):
    """What one pass through a model showed.

    Attributes:
      rules: layer path to rule, in the order of the first calls.
      refused: layer path to the reason why it has none.
      modules: module path to the name of its class, of all modules called.
    """

    rules: dict[str, Rule]
    refused: dict[str, str]
    modules: dict[str, str]

    def reason(self, path: str) -> str:
        """Why the parameters of a module have no factors."""
        if path in self.refused:
            return self.refused[path]
        if path in self.modules:
            return f"no rule for {self.modules[path]}"
        return "of no module called in this pass"


class Observer:
    """Sees every layer; this one changes nothing and records nothing."""

    def called(self, path: str, name: str) -> None:
        """A module of that path and class is called."""

    def refuse(self, path: str, reason: str) -> None:
        """The layer of that path cannot have factors."""

    @contextlib.contextmanager
    def changed_kernels(self, name: str) -> Iterator[None]:
        """While this lasts, kernels are not the parameters but made from them."""
        del name
        yield

    def layer(
        self,
        kind: str,
        layer: KfacLayer,
        module: Any,
        kernel: Any,
        inputs: Any,
        outputs: Any,
    ) -> Any:
        """A layer of a known kind has been called.

        Args:
          kind: see ``rule_for``.
          layer: its path, and the names of its parameters.
          module: the module.
          kernel: the kernel that it sees.
          inputs: what it was given.
          outputs: what it returned.

        Returns:
          The outputs that the model goes on with.
        """
        del kind, layer, module, kernel, inputs
        return outputs


class Finder(Observer):
    """Finds the layers, and the reasons against them, in an abstract pass.

    Args:
      params: the tree of the parameters.
      max_dim: the widest side whose factor is a matrix.
    """

    def __init__(self, params: Any, max_dim: int):
        self._leaves = {
            path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
            for path, leaf in leaves_by_path(params)[0].items()
        }
        self._max_dim = max_dim
        self._changed: list[str] = []
        self._found = Found({}, {}, {})

    def called(self, path, name):
        self._found.modules[path] = name

    def refuse(self, path, reason):
        self._found.refused.setdefault(path, reason)

    @contextlib.contextmanager
    def changed_kernels(self, name):
        self._changed.append(name)
        try:
            yield
        finally:
            self._changed.pop()

    def layer(self, kind, layer, module, kernel, inputs, outputs):
        del inputs
        path, own = layer.path, self._leaves.get(layer.leaf(layer.kernel))
        if own is None:
            reason = "its kernel is not among the parameters"
        elif self._changed:
            reason = f"its kernel is changed by {self._changed[-1]}"
        elif own.shape != kernel.shape:
            reason = "stacked by a transform, one layer for each index"
        else:
            rule = rule_for(kind, module, layer, own, outputs.dtype, self._max_dim)
            if not isinstance(rule, Rule):
                reason = rule
            elif self._found.rules.setdefault(path, rule) == rule:
                return outputs
            else:
                reason = "two uses with different settings"
        self.refuse(path, reason)
        return outputs

    def found(self) -> Found:
        """What the pass has shown."""
        refused = self._found.refused
        kept = {
            path: rule
            for path, rule in self._found.rules.items()
            if path not in refused
        }
        return self._found._replace(rules=kept)


class Tapper(Observer):
    """Puts a tap on every layer that has a rule.

    Args:
      rules: layer path to rule.
      sums: layer path to the zeros that are differentiated.

    Attributes:
      seen: the paths of the layers called.
    """

    def __init__(self, rules: Mapping[str, Rule], sums: Mapping[str, Sums]):
        self._rules, self._sums = rules, sums
        self.seen: set[str] = set()

    def layer(self, kind, layer, module, kernel, inputs, outputs):
        del kind, module, kernel
        if layer.path not in self._rules:
            return outputs
        self.seen.add(layer.path)
        return tap(
            self._rules[layer.path],
            outputs,
            jnp.asarray(inputs),
            self._sums[layer.path],
        )
