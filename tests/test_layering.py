"""A module imports only from lower levels, and the packages that DESIGN confines stay where they are."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vae_jax"

# Within L6 and L7 the order is finer than in the design: what comes later may use what comes before.
LEVELS = [
    {"types", "rng", "errors", "sweep"},
    {"distributions", "networks.layers"}
    | {f"likelihoods.{family}" for family in ("bernoulli", "continuous_bernoulli", "gaussian", "logistic")},
    {"networks.mlp", "networks.conv", "likelihoods.categorical"},
    {"networks", "likelihoods"},
    {"priors"},
    {"models.generator"},
    {"models.vae", "models.ae"},
    {"models"},
    {"objectives.elbo", "optim", "evaluation", "evaluation.weights"},
    {f"evaluation.{name}" for name in ("aggregate", "ais", "gaps", "latents", "likelihood")}
    | {f"evaluation.{name}" for name in ("probes", "rate_distortion", "samples")},
    {"objectives.free_bits", "objectives.capacity"},
    {"objectives"},
    {"step"},
    {"population", "sharding"},
    {"data.arrays", "data.cache", "data.images", "data.row_reader", "data.split"},
    {"data.image_folder", "data.mnist_files", "data.prepared", "data.user_file"},
    {"data.scan", "data.sources", "data.stream"},
    {"data"},
    {"defaults"},
    {"config", "checkpoints", "writers", "plots", "page", "captions", "estimate_table"},
    {"program", "record", "sweep_table", "latent_plots", "suitability"},
    {"evaluate", "features", "run", "sweep_plots", "compare", "tensorboard", "estimate_plots"},
    {"log", "estimators.task"},
    {f"estimators.{name}" for name in ("iwae", "latents", "probes", "samples")},
    {"estimators.ais"},
    {"estimators.gaps", "estimators.rate_distortion"},
    {"estimators"},
    {"estimation"},
    {"latent_pictures"},
    {"pictures", "report"},
    {"train", "outcome"},
    {"api"},
    {"", "main"},
]
LEVEL = {name: i for i, names in enumerate(LEVELS) for name in sorted(names)}
PURE = [name for name, level in LEVEL.items() if level <= LEVEL["population"]]
SLOW = {"sklearn", "matplotlib", "tensorflow_datasets", "mlxtend", "PIL", "tqdm", "tensorboard"}
CONFINED = {
    "flax": lambda name: name.startswith("networks"),
    "orbax": lambda name: name == "checkpoints",
    "absl.flags": lambda name: name == "main",
    "ml_collections.config_flags": lambda name: name == "main",
    "tensorflow": lambda name: False,
    "tensorboard": lambda name: name == "tensorboard",
}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), ast.parse(path.read_text())


def imports(tree, top_level_only=False):
    """The full names that a module imports: "a.b" for `import a.b` and for `from a import b`."""
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own(name):
    """The module of the package that an imported name belongs to, or None."""
    if name != "vae_jax" and not name.startswith("vae_jax."):
        return None
    inner = name.removeprefix("vae_jax").removeprefix(".")
    while inner not in LEVEL:
        inner = inner.rpartition(".")[0]
    return inner


MODULES = dict(modules())


def test_every_module_has_a_level():
    assert set(MODULES) == set(LEVEL)


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name):
    for imported in imports(MODULES[name]):
        target = own(imported)
        if target is None or imported == "vae_jax.__version__":
            continue
        if target == name or (name == "" and target == "api"):
            continue
        lower = LEVEL[target] < LEVEL[name]
        siblings = name.startswith("data.") and target.startswith("data.")
        assert lower or siblings or imported in ("vae_jax.api",), f"{name or 'vae_jax'} imports {imported}"


@pytest.mark.parametrize("name", MODULES)
def test_confined_packages_stay_where_they_are(name):
    for imported in imports(MODULES[name]):
        for package, allowed in CONFINED.items():
            if imported == package or imported.startswith(package + "."):
                assert allowed(name), f"{name} imports {imported}"


@pytest.mark.parametrize("name", MODULES)
def test_slow_packages_are_imported_where_they_are_used(name):
    slow = {i.split(".")[0] for i in imports(MODULES[name], top_level_only=True)} & SLOW
    assert not slow, f"{name} imports {slow} at its top"


@pytest.mark.parametrize("name", PURE)
def test_lower_levels_are_pure(name):
    names = {ast.unparse(n) for n in ast.walk(MODULES[name]) if isinstance(n, ast.Attribute | ast.Name)}
    assert not names & {"jax.jit", "open", "print", "ConfigDict", "logging"}, name
    assert not {i for i in imports(MODULES[name]) if i.startswith(("ml_collections", "pathlib", "os"))}


def test_jit_is_only_where_the_loop_is():
    users = {
        name
        for name, tree in MODULES.items()
        for n in ast.walk(tree)
        if isinstance(n, ast.Attribute) and ast.unparse(n) == "jax.jit"
    }
    loops = {"train", "evaluate", "features", "run", "checkpoints"}
    assert {name for name in users if not name.startswith("estimators.")} <= loops


def test_the_package_never_imports_configs_experiments_or_tests():
    for name, tree in MODULES.items():
        assert not {i for i in imports(tree) if i.split(".")[0] in ("configs", "experiments", "tests")}, name


def test_files_and_functions_stay_small():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 260, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and (path.name, node.name) != (
                "defaults.py",
                "_sections",
            ):  # a table
                inner = sum(
                    n.end_lineno - n.lineno + 1
                    for n in ast.walk(node)
                    if isinstance(n, ast.FunctionDef) and n is not node
                )
                assert node.end_lineno - node.lineno + 1 - inner <= 60, f"{path.name}: {node.name}"
