"""Captured factors of one layer against its dense Fisher, sampled and expected."""

import jax
import numpy as np
import pytest

import optax_ia.flax
from optax_ia import curvature
from optax_ia.flax._kfac_likelihood import likelihood_of
from tests.flax.kfac_problem import KEY, Mlp, compiled, drawn_labels, normal

EXACT = {"rtol": 1e-10, "atol": 1e-13}
X = normal((6, 5))
Y = {
    "categorical": np.arange(6) % 3,
    "bernoulli": (normal((6, 3), seed=1) > 0).astype(float),
    "gaussian": normal((6, 3), seed=1),
}
NET = Mlp((3,))
PARAMS = {"Dense_0": {"kernel": normal((5, 3), 3), "bias": normal(3, 4)}}


def dense(operator):
    """An operator on the layer as a matrix, the bias after the kernel."""

    def tree(vector):
        kernel, bias = np.split(vector, [15])
        return {"Dense_0": {"kernel": kernel.reshape(5, 3), "bias": bias}}

    def flat(tree):
        layer = tree["Dense_0"]
        return np.concatenate([np.ravel(layer["kernel"]), layer["bias"]])

    return np.stack([flat(operator(tree(row))) for row in np.eye(18)])


def network_loss(name):
    likelihood = likelihood_of(name)

    def output_loss(z, batch):
        return likelihood.negative_log_likelihood(z, batch[1]).mean()

    return (lambda p, batch: NET.apply({"params": p}, batch[0])), output_loss


def capturing(name):
    return optax_ia.flax.kfac_value_and_grad(NET, name, apply_kwargs={})


@pytest.mark.parametrize("name", ["categorical", "gaussian"])
def test_the_sampled_fisher_of_one_example(name):
    """With one example the Fisher of a layer is the Kronecker product itself."""
    batch = X[:1], Y[name][:1]
    _, _, factors = compiled(capturing(name))(PARAMS, batch, KEY)

    def with_the_same_labels(batch, outputs, key):
        del key
        return batch[0], drawn_labels(likelihood_of(name), outputs)

    fisher = curvature.fisher_operator(
        network_loss(name), PARAMS, batch, key=KEY, sample_fn=with_the_same_labels
    )
    np.testing.assert_allclose(np.kron(*factors["Dense_0"]), dense(fisher), **EXACT)


@pytest.mark.parametrize(
    ("name", "examples"), [("categorical", 1), ("bernoulli", 1), ("gaussian", 6)]
)
def test_the_expected_fisher(name, examples):
    """The mean over many keys is the Fisher, which is Kronecker in these cases."""
    batch = X[:examples], Y[name][:examples]
    capture, keys = capturing(name), jax.random.split(KEY, 4000)

    @compiled
    @jax.vmap
    def draws(key):
        return capture(PARAMS, batch, key)[2]["Dense_0"]

    inputs, outputs = draws(keys)
    operator = curvature.gauss_newton_operator(network_loss(name), PARAMS, batch)
    fisher = dense(operator)
    assert np.ptp(inputs, axis=0).max() == 0
    wanted = fisher.reshape(6, 3, 6, 3)[-1, :, -1]  # where the inputs' factor is 1
    error = outputs.std(axis=0) / np.sqrt(len(keys))
    assert np.all(np.abs(outputs.mean(axis=0) - wanted) <= 4 * error + 1e-12)
    np.testing.assert_allclose(np.kron(inputs[0], wanted), fisher, **EXACT)
