"""RoBERTa: masks, padding, training, dtypes, and weights in Hugging Face's layout."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia.flax
from optax_ia import models

PAD, MASK = 1, 2


def texts():
    """Two texts of five and seven tokens, padded to eight."""
    tokens = np.random.default_rng(0).integers(3, 50, (2, 8)).astype(np.int32)
    tokens[0, 5:] = tokens[1, 7:] = PAD
    return jnp.asarray(tokens)


@functools.cache
def build(**options):
    model = models.create_model("roberta_tiny", **options)
    init = jax.jit(functools.partial(model.init, train=False))
    return model, init(jax.random.key(0), texts())["params"]


@functools.partial(jax.jit, static_argnums=0)
def evaluate(model, params, tokens, mask, positions):
    apply = functools.partial(model.apply, {"params": params}, train=False)
    return apply(tokens, mask), apply(tokens, mask, positions=positions)


@functools.partial(jax.jit, static_argnums=0)
def grad_fn(model, params, tokens, key):
    def loss_fn(params):
        masked = tokens.at[:, jnp.array([1, 3])].set(MASK)
        positions = jnp.array([[1, 3], [1, 3]])
        logits = model.apply(
            {"params": params}, masked, positions=positions, rngs={"dropout": key}
        )
        labels = jnp.take_along_axis(tokens, positions, axis=1)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    return jax.value_and_grad(loss_fn)(params)


def test_one_step_lowers_the_loss_and_every_parameter_has_a_gradient():
    model, params = build(num_layers=1)  # of which a gradient compiles in half the time
    key = jax.random.key(1)
    before, grads = grad_fn(model, params, texts(), key)
    largest = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.abs(leaf).max()
        for path, leaf in jax.tree_util.tree_leaves_with_path(grads)
    }
    assert np.isfinite(list(largest.values())).all()
    for path, size in largest.items():
        if path.endswith("key/bias"):  # the same for all keys: the softmax drops it
            assert size < 1e-6 * largest[path.replace("bias", "kernel")] + 1e-8
        else:
            assert size > 1e-7, path
    stepped = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
    after, _ = grad_fn(model, stepped, texts(), key)
    assert after < before
    assert grad_fn(model, params, texts(), jax.random.key(2))[0] != before

    # computed again in the backward pass, with the same masks of dropout
    again, other = grad_fn(build(num_layers=1, remat=True)[0], params, texts(), key)
    np.testing.assert_allclose(again, before, rtol=1e-6)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-7)
    jax.tree.map(close, other, grads)


def test_tokens_that_are_not_attended_to_do_not_matter():
    model, params = build()
    tokens, places = texts(), jnp.array([[4, 0, 2], [6, 6, 1]])
    attended = (tokens != PAD).astype(jnp.int32)
    logits, some = evaluate(model, params, tokens, attended, places)
    assert logits.shape == (2, 8, 50)
    chosen = np.take_along_axis(np.asarray(logits), np.asarray(places)[..., None], 1)
    np.testing.assert_allclose(some, chosen, rtol=1e-5, atol=1e-6)

    changed = tokens.at[0, 2].set(9).at[1, 2].set(9)
    without = attended.at[:, 2].set(0)
    logits = [
        np.asarray(evaluate(model, params, which, mask, places)[0])
        for which, mask in ((tokens, without), (changed, without), (changed, attended))
    ]
    others = np.asarray(attended, bool) & (np.arange(8) != 2)
    np.testing.assert_array_equal(logits[0][others], logits[1][others])
    assert (np.abs(logits[1] - logits[2])[others] > 1e-6).any(-1).all()


def test_padding_is_masked_and_not_counted():
    model, params = build()
    tokens, apply = texts(), functools.partial(model.apply, {"params": params})
    padded = np.asarray(jax.jit(apply, static_argnames="train")(tokens, train=False))
    # by hand: the padding before the text, which then has the same positions
    moved = jnp.roll(tokens, 1, axis=1)
    assert moved[1, 0] == PAD
    logits, _ = evaluate(model, params, moved, moved != PAD, jnp.zeros((2, 3), int))
    np.testing.assert_allclose(logits[1, 1:], padded[1, :7], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float64])
def test_dtypes(dtype):
    small = dtype == jnp.bfloat16
    model = models.create_model("roberta_tiny", dtype=dtype if small else None)
    wide = jnp.float32 if small else jnp.float64
    params = jax.eval_shape(
        lambda tree: jax.tree.map(lambda x: x.astype(wide), tree), build()[1]
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(build()[1])} == {
        jnp.dtype("float32")
    }

    def inside(params, tokens):
        return model.apply(
            {"params": params}, tokens, train=False, capture_intermediates=True
        )

    logits, state = jax.eval_shape(inside, params, texts())
    layer = state["intermediates"]["layer_1"]["__call__"][0]
    assert (logits.dtype, layer.dtype) == (wide, dtype)
    loss, grads = jax.eval_shape(
        functools.partial(grad_fn, model), params, texts(), jax.random.key(0)
    )
    assert {loss.dtype, *(leaf.dtype for leaf in jax.tree.leaves(grads))} == {
        jnp.dtype(wide)
    }


def test_published_sizes():
    # transformers' RobertaForMaskedLM with these configurations; in print: 125M, and
    # 80.4M in the survey, which names no configuration
    published = {"roberta_base": 124_697_433, "roberta_80m": 80_428_416}
    for name, count in published.items():
        assert models.count_parameters(name) == count
        assert models.get_model_record(name).parameters == count


def test_kfac_sees_every_dense_layer():
    model, params = build()
    rows = optax_ia.flax.kfac_coverage(model, params, texts())
    treatment = {row.path: row.treatment for row in rows}
    kernels = {path: how for path, how in treatment.items() if path.endswith("kernel")}
    assert len(kernels) == 2 * 6 + 1
    assert set(kernels.values()) == {"kronecker"}
    assert "attend" in treatment["embeddings/word/embedding"]


def hugging_face_names(params):
    """The state dict of transformers' RobertaForMaskedLM, from our parameters."""
    params = jax.tree.map(np.asarray, params)
    tables = params["embeddings"]
    state = {
        f"roberta.embeddings.{name}_embeddings.weight": tables[name]["embedding"]
        for name in ("position", "token_type")
    }
    state["roberta.embeddings.word_embeddings.weight"] = tables["word"]["embedding"]
    norms = {"roberta.embeddings.LayerNorm": tables["layer_norm"]}
    norms["lm_head.layer_norm"] = params["head_norm"]
    dense = {"lm_head.dense": params["head_dense"]}
    for index in range(2):
        layer, prefix = params[f"layer_{index}"], f"roberta.encoder.layer.{index}."
        for name in ("query", "key", "value"):
            dense[f"{prefix}attention.self.{name}"] = layer["attention"][name]
        dense[f"{prefix}attention.output.dense"] = layer["attention"]["out"]
        dense[f"{prefix}intermediate.dense"] = layer["intermediate"]
        dense[f"{prefix}output.dense"] = layer["output"]
        norms[f"{prefix}attention.output.LayerNorm"] = layer["attention_norm"]
        norms[f"{prefix}output.LayerNorm"] = layer["output_norm"]
    for name, norm in norms.items():
        state |= {f"{name}.weight": norm["scale"], f"{name}.bias": norm["bias"]}
    for name, layer in dense.items():
        outputs = layer["bias"].size
        matrix = layer["kernel"].reshape(-1, outputs).T
        state |= {f"{name}.weight": matrix, f"{name}.bias": layer["bias"].reshape(-1)}
    return state | {"lm_head.bias": params["decoder_bias"]}


def test_weights_in_hugging_faces_layout():
    params = build()[1]
    state = hugging_face_names(params)
    tied = {
        "lm_head.decoder.weight": state["roberta.embeddings.word_embeddings.weight"],
        "lm_head.decoder.bias": state["lm_head.bias"],
        "roberta.embeddings.position_ids": np.arange(18),
    }
    for weights in (state, state | tied):
        got = models.from_torch("roberta_tiny", weights)["params"]
        jax.tree.map(np.testing.assert_array_equal, got, params)

    fewer = {name: value for name, value in state.items() if name != "lm_head.bias"}
    wanted = (
        r"missing from the state_dict: lm_head\.bias; unexpected in .*: pooler\.w\."
    )
    with pytest.raises(ValueError, match=wanted):
        models.from_torch("roberta_tiny", fewer | {"pooler.w": np.zeros(3)})
    with pytest.raises(ValueError, match=r"decoder\.weight must equal roberta"):
        models.from_torch(
            "roberta_tiny", state | {"lm_head.decoder.weight": np.zeros((50, 16))}
        )
    name = "roberta.encoder.layer.0.intermediate.dense.weight"
    with pytest.raises(ValueError, match=r"is \(16, 32\) and should be \(32, 16\)"):
        models.from_torch("roberta_tiny", state | {name: state[name].T})


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="must divide hidden_size 768, got 7"):
        models.create_model("roberta_base", num_heads=7)
    model, params = build()
    with pytest.raises(ValueError, match="at most max_length = 16 tokens, got 17"):
        model.apply({"params": params}, jnp.zeros((1, 17), int), train=False)
