"""Every config loads, is complete and possible, and trains two steps (on data of its own shape)."""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest
from making import KNOWN, check, make_programs, of_objective

import vae_jax
from vae_jax import config as settings
from vae_jax import data, default
from vae_jax.errors import UserError
from vae_jax.types import Example, Field, Objective

pytestmark = pytest.mark.usefixtures("undrawn")
CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))
SHAPES = {"digits": (8, 8, 1), "dsprites": (64, 64, 1), "shapes3d": (64, 64, 3)}
SHAPES |= dict.fromkeys(("cifar10", "svhn_cropped"), (32, 32, 3)) | dict.fromkeys(
    ("celeb_a", "folder"), (64, 64, 3)
)
# Nothing is compiled of these: it takes minutes, or is the same as configs/mnist.py's.
TRACED = [
    "ae",
    "celeba",
    "cifar10",
    "digits",
    "dsprites",
    "folder",
    "mnist_conv",
    "shapes3d",
    "svhn_cropped",
]
TRACED += ["binarized_mnist", "emnist", "fashion_mnist", "kmnist", "omniglot"]


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", [p for p in CONFIGS if p.stem in TRACED], ids=lambda p: p.stem)
def test_config_can_be_traced(path):
    """Draws as large as they are, and a step, which costs more, without convolutions: nothing is
    computed, only shapes."""
    module = load(path)
    assert f"--config=configs/{path.name}" in module.__doc__
    config = module.get_config()
    shape = SHAPES.get(config.data.name, (28, 28, 1))
    x_mean = np.full(shape, 0.5, np.float32)
    program = make_programs(check(config), x_mean, 1000)[0]
    assert program.draw_like.distortion.shape == ()
    assert program.draw_like.z.shape == (config.hypers.latent_dim,)
    if config.network.name == "conv":  # whose gradients are tested with its sums
        config.network.name, config.network.hidden = "mlp", (8,)
        program = make_programs(check(config), x_mean, 1000)[0]
    state, hypers = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype),
        (program.abstract_state(), program.hypers),
    )
    store = Example(jax.ShapeDtypeStruct((1000, int(np.prod(shape))), np.uint8))
    index = jax.ShapeDtypeStruct((config.train.batch_size,), np.int32)
    after, metrics = jax.eval_shape(program.steps.train, state, hypers, store, index)
    assert jax.tree.structure(after) == jax.tree.structure(state) and metrics["loss"].shape == ()


@pytest.mark.parametrize("path", [p for p in CONFIGS if p.stem not in TRACED], ids=lambda p: p.stem)
def test_config_runs_two_steps(path, tmp_path):
    module = load(path)
    assert f"--config=configs/{path.name}" in module.__doc__
    config = module.get_config()
    check(config)
    shape = SHAPES.get(config.data.name, (28, 28, 1))
    x = np.random.default_rng(0).integers(
        0, 256, (config.train.batch_size * 2 + 50, *shape), np.uint8
    )
    dataset = data.from_arrays(config.data.name, x, num_valid=20, num_test=30)
    config.train.num_epochs, config.train.steps_per_call, config.eval.nll_samples = 1.0, 2, 2
    run = vae_jax.train(config, tmp_path / "run", dataset=dataset)
    assert run.step == 2 and run.results["complete"]
    assert np.isfinite(run.results["members"][0]["test"]["nll"])


def test_a_config_from_python_may_be_any_complete_config_dict():
    config = default()
    config.train.num_epochs = 3
    assert check(config).train.num_epochs == 3.0 and check(config).train.schedule_epochs == 3.0
    with pytest.raises(UserError, match="config is dict"):
        check({})
    del config.data["seed"]
    with pytest.raises(UserError, match=r"lacks the field 'data.seed'"):
        check(config)
    config = default()
    config.hypers.tau = 2.0
    with pytest.raises(UserError, match=r"no field 'hypers.tau'"):
        check(config)
    objective = Objective(lambda rng, hypers: {}, lambda *_: None)
    parts = (of_objective(objective, hypers={"tau": Field(1.0, "of one's own")}),)
    config.objective.name = "own"
    assert check(config, parts).hypers.tau == 2.0
    config.modle = default().model
    with pytest.raises(UserError, match=r"no field 'modle"):
        check(config, parts)


def test_the_checked_config_is_locked_and_the_given_one_is_not_changed():
    config = default()
    checked = check(config)
    with pytest.raises(AttributeError):
        checked.train.new = 1
    assert config.train.schedule_epochs == 0.0


def beyond(field):
    """Values that the limits of a field exclude."""
    wrong = ["unheard of"] if field.choices else []
    wrong += [limit for limit in (field.above, field.below) if limit is not None]
    wrong += [field.least - 1] if field.least is not None else []
    wrong += [field.most + 1] if field.most is not None else []
    if isinstance(field.default, tuple):
        return [(value,) for value in wrong]
    return [type(field.default)(value) for value in wrong]


def test_every_number_has_a_least_value_and_no_field_exceeds_its_limits():
    start = settings.flatten(default())
    for name, field in KNOWN.fields.items():
        if type(field.default) in (int, float):
            assert field.above is not None or field.least is not None, name
        for value in beyond(field):
            with pytest.raises(UserError, match=f"^{name} is "):
                check(settings.unflatten(start | {name: value}))
