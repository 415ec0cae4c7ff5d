"""Names, records, options and errors of the zoo; the first VGGs as they were."""

import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_ia import models


def test_batch_statistics_move_in_train_mode_only():
    model = models.create_model("vgg_tiny", num_classes=4)
    images = jax.random.normal(jax.random.key(1), (6, 8, 8, 1), jnp.float32)

    @jax.jit
    def train(key, images):
        variables = model.init(key, images, train=False)
        after = model.apply(variables, images, train=True, mutable=["batch_stats"])[1]
        return variables, after, model.apply(variables, images, train=False)

    variables, after, logits = train(jax.random.key(0), images)
    # flax momentum 0.9 keeps nine tenths of the old mean (zero) and adds a tenth.
    kernel = variables["params"]["ConvBlock_0"]["Conv_0"]["kernel"]
    pre = jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    got = after["batch_stats"]["ConvBlock_0"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(got, 0.1 * pre.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)
    assert logits.shape == (6, 4)


def test_without_normalisation_an_image_does_not_depend_on_its_batch():
    model = models.create_model("vgg_tiny_plain", num_classes=4)
    images = jax.random.normal(jax.random.key(1), (6, 8, 8, 1), jnp.float32)
    variables = model.init(jax.random.key(0), images)
    logits = model.apply(variables, images, train=True)
    alone = model.apply(variables, images[:2], train=False)
    np.testing.assert_allclose(logits[:2], alone, rtol=1e-5, atol=1e-6)
    # He's variance, 2 over the inputs of a unit: 9 times 4 here
    kernel = variables["params"]["ConvBlock_1"]["Conv_0"]["kernel"]
    assert kernel.var() == pytest.approx(2 / 36, rel=0.3)
    assert jax.tree.leaves(variables["params"]["ConvBlock_1"]["Conv_0"]["bias"])


def test_the_first_vggs_keep_their_paths():
    """Saved runs hold them."""
    images = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)
    variables = jax.eval_shape(
        models.create_model("vgg_small").init, jax.random.key(0), images
    )
    assert {
        "/".join(key.key for key in path)
        for path, _ in jax.tree_util.tree_leaves_with_path(variables)
    } == {
        *[f"params/ConvBlock_{index}/Conv_0/kernel" for index in range(4)],
        *[
            f"{kind}/ConvBlock_{index}/BatchNorm_0/{leaf}"
            for index in range(4)
            for kind, leaf in (
                ("params", "scale"),
                ("params", "bias"),
                ("batch_stats", "mean"),
                ("batch_stats", "var"),
            )
        ],
        "params/Dense_0/kernel",
        "params/Dense_0/bias",
    }


def test_patterns_and_kinds():
    assert models.list_models("vgg*tiny*") == ["vgg_tiny", "vgg_tiny_plain"]
    assert models.list_models("resnet??") == [
        *("resnet18", "resnet20", "resnet32", "resnet34"),
        *("resnet44", "resnet50", "resnet56"),
    ]
    everything = models.list_models()
    images = models.list_models(kind="image")
    assert set(images) < set(everything)
    assert "autoencoder" in everything
    assert "autoencoder" not in images
    assert models.list_models("no*") == []


def test_records_say_what_a_model_is():
    record = models.get_model_record("resnet18_cifar")
    assert record.defaults["stem"] == "cifar"
    assert record.defaults["num_classes"] == 10
    assert record.input_shape == (32, 32, 3)
    assert models.get_model_record("mlp").defaults == {}
    for name in models.list_models():
        record = models.get_model_record(name)
        assert record.name == name
        assert record.summary.endswith(".")
        if record.kind == "image":
            assert record.paper or "tiny" in name or name in ("vgg_small", "mlp")
        assert (record.parameters is None) or record.parameters_source


def test_unknown_name():
    with pytest.raises(ValueError, match="unknown model 'resnet'.*vgg_small, vgg_tiny"):
        models.create_model("resnet")
    with pytest.raises(ValueError, match="unknown model 'resnet'"):
        models.count_parameters("resnet")


def test_unknown_options_and_kinds():
    with pytest.raises(TypeError, match="lenet has no option stem; choose from: num"):
        models.create_model("lenet", stem="cifar")
    with pytest.raises(ValueError, match="kind must be one of 'image', 'language'"):
        models.list_models(kind="images")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet18", {"num_classes": 0}, "num_classes must be >= 1, got 0"),
        ("resnet18", {"stem": "mnist"}, "stem must be one of 'cifar', 'imagenet'"),
        ("resnet20", {"shortcut": "B"}, "shortcut must be one of 'projection', 'pad'"),
        ("densenet121", {"dropout": 1.0}, "dropout must be < 1"),
        ("autoencoder", {"dropout": -0.1}, "dropout must be >= 0"),
        ("preresnet110", {"depth": 111}, r"depth must be 9 n \+ 2.*got 111"),
        ("preresnet110", {"block": "wide"}, "block must be one of"),
        ("wide_resnet28_10", {"depth": 27}, r"depth must be 6 n \+ 4, got 27"),
        ("wide_resnet28_10", {"widen": 0}, "widen must be >= 1"),
        ("pyramidnet110_a48", {"alpha": -1}, "alpha must be >= 0"),
        ("pyramidnet110_a48", {"depth": 12}, r"depth must be 6 n \+ 2"),
        ("mobilenet_v2", {"width": 0}, "width must be > 0"),
        ("efficientnet_b0", {"stochastic_depth": 1}, "stochastic_depth must be < 1"),
        ("efficientnet_b0", {"depth": -1.0}, "depth must be > 0"),
        ("inception_v3", {"width": 0}, "width must be > 0"),
    ],
)
def test_wrong_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        models.create_model(name, **options)


def test_the_auxiliary_head_says_which_images_it_needs():
    model = models.create_model("inception_v3")
    images = jax.ShapeDtypeStruct((1, 96, 96, 3), jnp.float32)
    with pytest.raises(ValueError, match=r"17x17.*got 4x4: set aux=False"):
        jax.eval_shape(model.init, jax.random.key(0), images)


def test_zero_init_begins_as_the_shortcuts():
    plain = models.create_model("resnet_tiny", zero_init=False)
    model = models.create_model("resnet_tiny", zero_init=True)
    images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3), jnp.float32)
    variables = jax.jit(model.init, static_argnames="train")(
        jax.random.key(0), images, train=False
    )
    params = variables["params"]
    assert not params["stage1_block1"]["norm2"]["scale"].any()
    assert params["stage1_block1"]["norm1"]["scale"].all()
    apply = jax.jit(plain.apply, static_argnames="train")
    logits = apply(variables, images, train=False)
    params["stage1_block1"]["conv1"]["kernel"] *= 2.0
    np.testing.assert_array_equal(logits, apply(variables, images, train=False))


def test_records_make_linen_modules():
    for name in models.list_models():
        assert isinstance(models.create_model(name), nn.Module)


def test_missing_flax_names_the_command():
    code = "import sys; sys.modules['flax'] = None; import optax_ia.models"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "pip install 'optax-ia[flax]'" in done.stderr.splitlines()[-1]
