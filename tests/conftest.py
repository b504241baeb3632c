"""Eight virtual CPU devices, and a cache that no test shares with the user."""

import contextlib
import functools
import gc
import importlib.metadata
import os

JAXLIB = tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2]))

# Nearly all the time of the tests is the compiler's, for programs that then run for milliseconds.
FAST_TO_COMPILE = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
FAST_TO_COMPILE += " --xla_cpu_parallel_codegen_split_count=1"
if JAXLIB < (0, 11):  # later ones end a process that sets it
    FAST_TO_COMPILE += " --xla_cpu_use_fusion_emitters=false"
if "xla_backend_optimization_level" not in os.environ.get(
    "XLA_FLAGS", ""
):  # test_optimized.py asks for all of it
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FAST_TO_COMPILE}".strip()

import jax  # noqa: E402  after the flags are set
import numpy as np  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
# As vae_jax.train and Run ask for: or what they trace would be traced again outside of them.
jax.config.update("jax_default_matmul_precision", "highest")
jax.config.update("jax_traceback_in_locations_limit", 0)  # nobody reads the programs' locations


from vae_jax import config as settings  # noqa: E402  after the number of devices is set
from vae_jax.parallel import devices, population  # noqa: E402
from vae_jax.training import evaluation, loop, program  # noqa: E402

# Eight virtual devices share the machine's cores: tests use one, unless they name more.
_make_mesh = devices.make_mesh
devices.make_mesh = lambda members, batch, devices=None: _make_mesh(
    members, batch, devices or jax.devices()[:1]
)


def made_once(make, reads, describe):
    """`make`, but the same object again where it is given the same: it is traced and compiled once.

    Args:
      reads: (config) -> that part of it which `make` reads, and all that it is given to read.
      describe: (that part, what else `make` is given) -> what makes a difference.
    """
    made = {}

    def again(config, *args, **kwargs):
        config = settings.unflatten(reads(settings.flatten(config)))
        key = config.to_json(sort_keys=True), describe(config, *args, **kwargs)
        if key not in made:  # the arguments are kept, so that no other object gets the id of one
            made[key] = make(config, *args, **kwargs), args
        return made[key][0]

    again.__wrapped__ = make
    return again


def of(*names):
    """The fields of these names, and all of the sections of these names."""

    def read(flat):
        return {n: v for n, v in flat.items() if n in names or n.split(".")[0] in names}

    return read


def chosen(config, catalogue, *kinds):
    named = settings.flatten(config)
    return tuple(id(catalogue.chosen(kind, named)) for kind in kinds)


def of_model(config, facts, catalogue, width, dtype=None):
    scaling = facts.scaling and tuple(np.asarray(leaf).tobytes() for leaf in facts.scaling)
    x_mean = np.shape(facts.x_mean), np.asarray(facts.x_mean).tobytes()
    parts = chosen(config, catalogue, "model", "network", "likelihood", "prior")
    return parts, x_mean, scaling, facts.observed, facts.condition, width, str(dtype)


def of_objective(config, catalogue, z_like):
    return chosen(config, catalogue, "objective"), repr(z_like)


def of_steps(config, model, trained, objective, catalogue, _view, steps_per_epoch):
    """The hyper-parameters are arguments of the steps; of the view the model has been made."""
    parts = chosen(config, catalogue, "optimizer", "learning_rate_schedule", "beta_schedule")
    return parts, model, trained, objective, steps_per_epoch


# Traces are millions of small objects that stay: looking for cycles among them takes a twentieth.
gc.freeze()
gc.set_threshold(100_000, 50, 100)

# Most tests train the same few small models.
MODEL = of("data.binarize", "model", "network", "likelihood", "prior")
STEPS = of("data.binarize", "objective", "optimizer", "schedule", "eval.seed")
TRAIN = of("train.schedule_epochs", "train.ema_decay", "train.early_stop_epochs")
program.make_model = made_once(program.make_model, MODEL, of_model)
program.make_objective = made_once(program.make_objective, of("objective"), of_objective)
program.make_steps = made_once(program.make_steps, lambda flat: STEPS(flat) | TRAIN(flat), of_steps)
population.lift = functools.cache(population.lift)


def remembered(module, *names):
    """The package remembers what it compiled last; tests go to and fro between a few programs."""
    for name in names:
        plain = getattr(module, name).__wrapped__
        setattr(module, name, functools.lru_cache(maxsize=8)(plain))


remembered(loop, "_train_chunk", "_after_validation")
remembered(evaluation, "_block", "_codes", "_fit", "_sample")


LONGEST = [
    "test_sweep_run",
    "test_estimators",
    "test_main",
    "test_train",
    "test_vae",
    "test_ais",
    "test_processes",
]
LONGEST += ["test_docs", "test_configs"]


def pytest_collection_modifyitems(items):
    """The files that take longest first, whole: or one worker would still be at them when the
    others have ended."""
    items.sort(
        key=lambda item: (
            LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST)
        )
    )


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    if (
        "PYTEST_XDIST_WORKER" in os.environ
    ):  # what one of several workers compiles or decodes serves all
        folder = tmp_path_factory.getbasetemp().parent / "cache"
        folder.mkdir(exist_ok=True)
    os.environ["VAE_JAX_CACHE"] = str(folder)
    # Tests train the same small model again and again: compile it once.
    jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture
def images():
    """A dataset of 300 small grey images that have something to learn."""
    from vae_jax import data

    rng = np.random.default_rng(0)
    code = rng.normal(size=(300, 2))
    basis = rng.normal(size=(2, 6 * 5))
    grey = 255 / (1 + np.exp(-2 * code @ basis))
    x = grey.astype(np.uint8).reshape(300, 6, 5, 1)
    label = (code[:, 0] > 0).astype(np.int64) + 2 * (code[:, 1] > 0)
    return data.from_arrays("blobs", x[:240], x[240:], label[:240], label[240:], num_valid=40)


@pytest.fixture
def config():
    """A configuration of seconds for `images`: 200 training examples, 10 steps an epoch."""
    from vae_jax import default

    config = default()
    config.network.hidden = (16,)
    config.network.activation = "tanh"
    config.hypers.latent_dim = 3
    config.hypers.learning_rate = 0.03
    config.hypers.lr_warmup_epochs = 0.2
    config.hypers.beta_warmup_epochs = 0.5
    config.train.batch_size = 20
    config.train.num_epochs = 3.0
    config.train.steps_per_call = 5
    config.eval.nll_samples = 20
    config.checkpoint.every_epochs = 1.0
    return config


@pytest.fixture
def undrawn(monkeypatch):
    """No pictures: they take a third of the time of such short runs."""
    from vae_jax.results import finish

    monkeypatch.setattr(finish.Outcome, "_draw", lambda self, members: None)


@pytest.fixture
def without_pictures():
    """A context within which nothing is drawn."""

    @contextlib.contextmanager
    def context():
        from vae_jax.results import finish

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(finish.Outcome, "_draw", lambda self, members: None)
            yield

    return context


def untrained(config, dataset, workdir, own=("dataset",), parts=()):
    """A Run with its first parameters, in a workdir as training would have left it, but for
    checkpoints and results."""
    import json

    from vae_jax.config import check
    from vae_jax.parallel import population
    from vae_jax.parts import catalogue
    from vae_jax.run import Run
    from vae_jax.training.program import facts_of, make_programs
    from vae_jax.workdir import record

    known = catalogue(parts)
    config, facts = check(config, known), facts_of(dataset)
    facts = facts._replace(x_mean=np.full(dataset.example_shape, 0.5))
    program, *_ = make_programs(config, facts, known)
    described = record.describe_dataset(dataset, config.data.binarize, facts.scaling)
    of_parts, recorded = known.recorded(config)
    about = record.describe_run(recorded, described, [*of_parts, *own], None)
    workdir.mkdir(parents=True, exist_ok=True)
    record.open_workdir(workdir, about, known)
    row = {"step": 1, "epoch": 0.1, "split": "train", "member": 0}
    row |= {"elbo": -3.0, "beta": 0.25, "loss": 3.0}
    (workdir / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    alone = program.alone(program.changes[0])
    params = alone.steps.init(population.member(alone.hypers, 0)).params
    return Run(workdir, alone, 0, params, 1, None)
