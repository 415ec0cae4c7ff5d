"""PyTorch's Shampoo and SOAP on given shapes, for an interpreter that has them.

Run by :mod:`experiments.benchmarks.shampoo` under ``--peer``; imports nothing of this
repository. Requests come as JSON, one a line, on the standard input, answers likewise
on the standard output.
"""

import contextlib
import json
import os
import sys
import time

import pytorch_optimizer  # pyright: ignore[reportMissingImports]: not of this project
import torch  # pyright: ignore[reportMissingImports]

distributed_shampoo = None
with contextlib.suppress(ImportError):  # it is in no registry
    import distributed_shampoo  # pyright: ignore[reportMissingImports]


def _scalable_shampoo(params, every):
    return pytorch_optimizer.ScalableShampoo(
        params,
        lr=1e-3,
        block_size=128,
        start_preconditioning_step=1,
        preconditioning_compute_steps=every,
        skip_preconditioning_rank_lt=1,
    )


def _soap(params, every):
    return pytorch_optimizer.SOAP(params, lr=1e-3, precondition_frequency=every)


def _distributed_shampoo(params, every):
    assert distributed_shampoo is not None
    optimizer = distributed_shampoo.DistributedShampoo(
        params,
        lr=1e-3,
        betas=(0.9, 0.99),
        max_preconditioner_dim=128,
        precondition_frequency=1,
        start_preconditioning_step=1,
        grafting_config=distributed_shampoo.AdamPreconditionerConfig(
            beta2=0.99, epsilon=1e-8
        ),
        # kernels as matrices, as ours
        distributed_config=distributed_shampoo.SingleDeviceDistributedConfig(
            target_parameter_dimensionality=2
        ),
    )
    # asked for at first, it would put off the first roots for as long
    for group in optimizer.param_groups:
        group["precondition_frequency"] = every
    return optimizer


PEERS = {"ScalableShampoo": _scalable_shampoo, "SOAP": _soap}
if distributed_shampoo is not None:
    PEERS["DistributedShampoo"] = _distributed_shampoo


class Session:
    """What the requests act on; ``load`` comes before all others."""

    def load(self, shapes):
        """Makes parameters and gradients of these shapes."""
        torch.manual_seed(0)
        self._shapes = [tuple(shape) for shape in shapes]
        self._optimizers = {"AdamW": self._make(torch.optim.AdamW)}
        return {
            "torch": torch.__version__,
            "peers": list(PEERS),
        }

    def _make(self, make):
        params = [
            torch.nn.Parameter(0.01 * torch.randn(shape)) for shape in self._shapes
        ]
        for param in params:
            param.grad = 0.01 * torch.randn(param.shape)
        return make(params)

    def start(self, name, every):
        """Makes a peer whose roots are due every so many steps, and does one."""
        self._optimizers[name] = self._make(lambda params: PEERS[name](params, every))
        self._optimizers[name].step()
        return {}

    def stop(self, name):
        """Forgets a peer."""
        del self._optimizers[name]
        return {}

    def block(self, name, steps):
        """Seconds of each of some steps."""
        optimizer, taken = self._optimizers[name], []
        for _ in range(steps):
            began = time.perf_counter()
            optimizer.step()
            taken.append(time.perf_counter() - began)
        return {"seconds": taken}


def main():
    """Answers requests until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print is no answer
    session = Session()
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(session, request.pop("do"))(**request)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
