"""Convolutional networks: the same sums as XLA's convolution, for any size; narrow and wide
members agree."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from making import KNOWN, check

from vae_jax import default
from vae_jax.errors import UserError
from vae_jax.networks.conv import ResidualBlock, SubPixelConv, level_sizes
from vae_jax.networks.layers import Conv, GroupNorm
from vae_jax.training.program import Facts, make_model

SHAPES = [(7, 5, 3), (9, 16, 2), (4, 4, 1)]


def hypers(latent_dim):
    return {"latent_dim": jnp.int32(latent_dim), "beta": jnp.float32(1.0)}


def small(shape, width, **fields):
    config = default()
    config.network.name, config.network.channels = "conv", (8, 16)
    for name, value in fields.items():
        config.network[name] = value
    return make_model(check(config), Facts(jnp.full(shape, 0.3), 200), KNOWN, width)


@partial(jax.jit, static_argnums=0)
def fresh(layer, x):
    """What a layer with its first parameters makes of x."""
    return layer.apply(layer.init(jax.random.key(1), x), x)


def by_definition(x, kernel, stride):
    """The 3x3 convolution as a sum, in float64."""
    height, width, _ = x.shape
    padded = np.pad(np.asarray(x, np.float64), ((1, 1), (1, 1), (0, 0)))
    out = np.zeros((-(-height // stride), -(-width // stride), len(kernel)))
    for i, j, o in np.ndindex(out.shape):
        patch = padded[i * stride : i * stride + 3, j * stride : j * stride + 3]
        out[i, j, o] = np.sum(patch * np.asarray(kernel[o], np.float64))
    return out


@pytest.mark.quick
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(5, 8, 3), (1, 2, 4), (6, 7, 1)])
def test_both_ways_to_convolve_are_the_definition(shape, stride):
    x = jax.random.normal(jax.random.key(0), shape)
    kernel = jax.random.normal(jax.random.key(1), (4, 3, 3, shape[-1]))
    layer, expected = Conv(4, stride), by_definition(x, kernel, stride)

    @jax.jit
    def in_each_way(x, kernel):
        params = {"params": {"kernel": kernel, "bias": jnp.arange(4.0)}}
        return layer._patches(x, kernel), layer._convolution(x, kernel), layer.apply(params, x)

    for found, bias in zip(in_each_way(x, kernel), (0, 0, np.arange(4)), strict=True):
        np.testing.assert_allclose(found, expected + bias, rtol=1e-4, atol=1e-5)


def test_a_populations_convolutions_are_those_of_its_members():
    x = jax.random.normal(jax.random.key(0), (3, 6, 5, 2))
    kernels = jax.random.normal(jax.random.key(1), (3, 4, 3, 3, 2))

    def loss(kernel, x):
        return jnp.sum(jnp.sin(Conv(4, 2)._patches(x, kernel)))

    together, alone = jax.jit(jax.vmap(jax.grad(loss)))(kernels, x), jax.jit(jax.grad(loss))
    for i in range(3):
        np.testing.assert_allclose(together[i], alone(kernels[i], x[i]), rtol=1e-4, atol=1e-5)


def test_group_norm_normalizes_each_group_of_one_example():
    x = 5 + 3 * jax.random.normal(jax.random.key(0), (6, 5, 12)) * jnp.arange(1.0, 13.0)
    layer = GroupNorm()  # 12 channels: 4 groups of 3
    y = fresh(layer, x)
    groups = np.asarray(y).reshape(30, 4, 3)
    np.testing.assert_allclose(groups.mean((0, 2)), 0.0, atol=1e-5)
    np.testing.assert_allclose(groups.std((0, 2)), 1.0, atol=1e-3)
    small = jax.random.normal(
        jax.random.key(2), (1, 1, 32)
    )  # 8 groups would have 4 values each: 2 groups of 16
    y = fresh(layer, small)
    np.testing.assert_allclose(np.asarray(y).reshape(2, 16).mean(1), 0.0, atol=1e-5)
    assert np.abs(np.asarray(y).reshape(4, 8).mean(1)).max() > 0.05


def test_a_residual_block_starts_as_the_identity_and_learns():
    x, block = jax.random.normal(jax.random.key(0), (5, 4, 8)), ResidualBlock("relu")
    params = jax.jit(block.init)(jax.random.key(1), x)
    np.testing.assert_array_equal(jax.jit(block.apply)(params, x), x)
    grads = jax.jit(jax.grad(lambda p: jnp.sum(block.apply(p, x) ** 2)))(params)["params"]
    assert np.abs(grads["Conv_1"]["kernel"]).max() > 0


def test_a_sub_pixel_convolution_starts_as_nearest_upsampling():
    x, layer = jax.random.normal(jax.random.key(0), (3, 4, 8)), SubPixelConv(5, (6, 7))
    y = fresh(layer, x)
    assert y.shape == (6, 7, 5)
    np.testing.assert_array_equal(y[::2], y[1::2])
    np.testing.assert_array_equal(y[:, :6:2], y[:, 1::2])
    assert np.abs(y[0] - y[2]).max() > 1e-3


@pytest.mark.quick
def test_a_sub_pixel_convolution_keeps_pixels_in_place():
    """A kernel that copies the centre into four distinct channels shows where each of them goes."""
    x = jnp.arange(6.0).reshape(2, 3, 1)
    kernel = jnp.zeros((4, 3, 3, 1)).at[:, 1, 1, 0].set(1.0)
    params = {"params": {"Conv_0": {"kernel": kernel, "bias": 0.1 * jnp.arange(4.0)}}}
    y = jax.jit(SubPixelConv(1, (4, 6)).apply)(params, x)[..., 0]
    np.testing.assert_allclose(y[:2, :2], [[0.0, 0.1], [0.2, 0.3]], atol=1e-6)
    np.testing.assert_allclose(y[2:, 4:], [[5.0, 5.1], [5.2, 5.3]], atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_any_size_is_encoded_and_decoded(shape):
    model = small(shape, 3, blocks=2 if shape[0] == 7 else 1)

    @jax.jit
    def both(x):
        params = model.init(jax.random.key(0), hypers(3))
        draw = model.draw(params, x, jax.random.key(2), hypers(3))
        return draw.log_w, model.decode(params, draw.z)

    log_w, decoded = both(ones(shape))
    assert np.isfinite(log_w) and np.isfinite(decoded).all() and decoded.shape == shape


def ones(shape):
    """Pixels of 0 and 1, flat."""
    return jax.random.bernoulli(jax.random.key(1), 0.5, (np.prod(shape),)).astype(jnp.float32)


def test_every_convolution_learns():
    model = small(SHAPES[0], 3)

    @jax.jit
    def gradients(x):
        def loss(params):
            return model.draw(params, x, jax.random.key(2), hypers(3)).log_w

        return jax.grad(loss)(model.init(jax.random.key(0), hypers(3)))

    grads = gradients(ones(SHAPES[0]))
    sizes = {
        jax.tree_util.keystr(path): np.abs(g).max() for path, g in jax.tree.leaves_with_path(grads)
    }
    # Behind the last convolution of a residual block, which starts at zero, nothing has a gradient
    # yet.
    assert all(
        size > 0 for path, size in sizes.items() if "kernel" in path and "ResidualBlock" not in path
    ), sizes
    assert all(size > 0 for path, size in sizes.items() if "Conv_1']['kernel" in path), sizes


def test_the_decoder_starts_at_the_datas_mean():
    x_mean = jnp.linspace(0.1, 0.9, 35).reshape(7, 5, 1)
    config = default()
    config.network.name, config.network.channels = "conv", (8,)
    model = make_model(check(config), Facts(x_mean, 200), KNOWN, 2)
    params = jax.jit(model.init)(jax.random.key(0), hypers(2))
    network = params["decoder"]["network"]
    quiet = jax.tree.map(jnp.zeros_like, network) | {"bias": network["bias"]}
    mean = jax.jit(model.decode)({"decoder": {"network": quiet, "likelihood": {}}}, jnp.zeros(2))
    np.testing.assert_allclose(mean, x_mean, rtol=1e-5)


@partial(jax.jit, static_argnums=0)
def first_draw(model, x):
    """The first parameters of a model of two active units, and log w of one draw with them."""
    params = model.init(jax.random.key(0), hypers(2))
    return params, model.draw(params, x, jax.random.key(2), hypers(2)).log_w


def test_a_narrow_member_of_a_wide_run_is_the_narrow_model():
    wide, narrow = (small((7, 5, 1), width, channels=(8,)) for width in (6, 2))
    (a, log_w), (b, expected) = (first_draw(model, ones((7, 5, 1))) for model in (wide, narrow))
    for head in ("mean", "logvar"):
        np.testing.assert_array_equal(
            a["encoder"][head]["kernel"][:2], b["encoder"][head]["kernel"]
        )
    first = [p["decoder"]["network"]["Dense_0"]["kernel"] for p in (a, b)]
    np.testing.assert_array_equal(first[0][:, :2], first[1])
    np.testing.assert_allclose(log_w, expected, rtol=1e-5)


@pytest.mark.quick
def test_levels_halve_and_round_up():
    assert level_sizes((28, 5), 3) == [(28, 5), (14, 3), (7, 2), (4, 1)]


def test_what_is_no_image_or_too_small_is_refused():
    with pytest.raises(UserError, match=r"needs images \[H, W, C\].*'mlp'"):
        small((12,), 2)
    with pytest.raises(UserError, match=r"3 levels.*3x9: give at most 1"):
        small((3, 9, 1), 2, channels=(8, 8, 8))
