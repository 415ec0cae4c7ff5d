"""Shampoo in float64 NumPy: the printed rule for any order, and what is built on it.

Every rule works on one array and returns the list of its iterates. ``gradient(t, w)``
is asked for the gradient of update t (1-based) at w; ``rate(t)`` for its learning
rate.
"""

import itertools

import numpy as np


def unfold(tensor, axis):
    """The matrix whose rows run along one axis, all others flattened."""
    return np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1)


def multiply(tensor, matrix, axis):
    """The tensor multiplied along one axis by a matrix."""
    product = matrix @ unfold(tensor, axis)
    rest = tuple(n for i, n in enumerate(tensor.shape) if i != axis)
    return np.moveaxis(product.reshape(matrix.shape[0], *rest), 0, axis)


def power(matrix, exponent):
    """A power of a symmetric positive definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(values**exponent) @ vectors.T


class Block:
    """One tensor's statistics, without blocks: its preconditioned gradients.

    Args:
      shape: of the tensor.
      eps: added once to every statistic, or times its largest eigenvalue.
      relative: whether ``eps`` is such a factor.
      decay: of the moving average; None sums.
      diagonal: which axes keep only the diagonal of their statistic.
    """

    def __init__(self, shape, *, eps, relative=False, decay=None, diagonal=()):
        self.shape, self.eps, self.relative = shape, eps, relative
        self.decay, self.diagonal = decay, diagonal
        self.sums = [np.zeros((n, n)) for n in shape]
        self.roots = [np.eye(n) for n in shape]
        self.weight = 0.0

    def accumulate(self, g):
        """Takes one gradient into the statistics."""
        for axis in range(g.ndim):
            matrix = unfold(g, axis) @ unfold(g, axis).T
            if axis in self.diagonal:
                matrix = np.diag(np.diag(matrix))
            if self.decay is None:
                self.sums[axis] = self.sums[axis] + matrix
                self.weight = 1.0
            else:
                keep = self.decay
                self.sums[axis] = keep * self.sums[axis] + (1 - keep) * matrix
        if self.decay is not None:
            self.weight = self.decay * self.weight + 1 - self.decay

    def take_roots(self):
        """Computes the inverse 2k-th roots."""
        order = len(self.shape)
        for axis, total in enumerate(self.sums):
            mean = total / self.weight
            ridge = self.eps
            if self.relative:
                ridge = self.eps * np.linalg.eigvalsh(mean)[-1]
            matrix = ridge * np.eye(len(mean)) + mean
            self.roots[axis] = power(matrix, -1 / (2 * order))

    def precondition(self, g):
        """The gradient multiplied by the root of every axis."""
        for axis, root in enumerate(self.roots):
            g = multiply(g, root, axis)
        return g


def cuts(length, block_size):
    """The slices that an axis is cut into: as few and as even as they can be."""
    if block_size is None or length <= block_size:
        return [slice(0, length)]
    number = -(-length // block_size)
    each = -(-length // number)
    return [slice(i * each, min((i + 1) * each, length)) for i in range(number)]


def grafted_size(method, t, g, memory, *, decay, eps):
    """The norm of another method's step, and its second moment after it."""
    if method == "sgd":
        return np.linalg.norm(g), memory
    if method == "adagrad":
        memory = memory + g * g
        return np.linalg.norm(g / (np.sqrt(memory) + eps)), memory
    memory = decay * memory + (1 - decay) * g * g
    corrected = memory / (1 - decay**t)
    return np.linalg.norm(g / (np.sqrt(corrected) + eps)), memory


def shampoo(
    w,
    gradient,
    rate,
    steps,
    *,
    eps=1e-4,
    relative=False,
    decay=None,
    block_size=None,
    precondition_every=1,
    statistics_every=1,
    start=1,
    max_dim=None,
    merged=False,
    diagonal_vectors=False,
    grafting=None,
    grafting_decay=0.999,
    grafting_eps=1e-8,
    momentum=None,
    decoupled=0.0,
):
    """Shampoo with all its options; the iterates after each update.

    Args:
      w: the first iterate.
      gradient: see the module.
      rate: see the module.
      steps: number of updates.
      eps: added once to every statistic.
      relative: whether in units of its largest eigenvalue.
      decay: of the statistics; None sums.
      block_size: longest axis of a block; None does not cut.
      precondition_every: updates between roots.
      statistics_every: updates between statistics.
      start: the first update with roots.
      max_dim: longest axis with a full statistic.
      merged: whether all axes but the last are one.
      diagonal_vectors: whether tensors of one axis keep only a diagonal.
      grafting: whose step size each tensor takes.
      grafting_decay: of RMSprop's second moment.
      grafting_eps: beside its root.
      momentum: decay of the moving average of the updates, bias-corrected.
      decoupled: decay of the parameters, times the rate.
    """
    shape = w.shape or (1,)
    if merged and len(shape) > 2:
        shape = (int(np.prod(shape[:-1])), shape[-1])
    long = [max_dim is not None and n > max_dim for n in shape]
    if diagonal_vectors and len(shape) == 1:
        long = [True]
    pieces = list(
        itertools.product(
            *(
                cuts(n, None if is_long else block_size)
                for n, is_long in zip(shape, long, strict=True)
            )
        )
    )
    diagonal = tuple(axis for axis, is_long in enumerate(long) if is_long)
    blocks = [
        Block(
            np.zeros(shape)[piece].shape,
            eps=eps,
            relative=relative,
            decay=decay,
            diagonal=diagonal,
        )
        for piece in pieces
    ]
    memory = np.zeros(w.shape)
    average = np.zeros(w.shape)
    iterates = []
    for t in range(1, steps + 1):
        g = gradient(t, w)
        viewed = g.reshape(shape)
        step = np.zeros(shape)
        for piece, block in zip(pieces, blocks, strict=True):
            if (t - 1) % statistics_every == 0:
                block.accumulate(viewed[piece])
            if t >= start and (t - start) % precondition_every == 0:
                block.take_roots()
            step[piece] = block.precondition(viewed[piece])
        step = step.reshape(w.shape)
        if grafting is not None:
            size, memory = grafted_size(
                grafting, t, g, memory, decay=grafting_decay, eps=grafting_eps
            )
            step = size * step / np.linalg.norm(step)
        if momentum is not None:
            average = momentum * average + (1 - momentum) * step
            step = average / (1 - momentum**t)
        w = w - rate(t) * (step + decoupled * w)
        iterates.append(w)
    return iterates
