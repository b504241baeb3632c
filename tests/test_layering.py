"""The architecture: the order of the packages, and what stays where it is."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vae_jax"

# A package or module imports from those before it, and within itself.
PURE = ["networks", "likelihoods", "priors", "models", "optim", "objectives", "metrics"]
ORDER = ["errors", "types", "rng", "distributions", "parallel", "data", *PURE, "config", "workdir"]
ORDER += ["training", "run", "plots", "estimators", "results", "parts", "api", "main"]
# Packages that take seconds to import: only inside the functions that use them.
SLOW = {
    "sklearn",
    "matplotlib",
    "tensorflow_datasets",
    "mlxtend",
    "PIL",
    "tqdm",
    "tensorboard",
    "pandas",
    "IPython",
    "ipywidgets",
}
CONFINED = {
    "flax": ["networks"],
    "orbax": ["workdir.checkpoints"],
    "absl.flags": ["main"],
    "ml_collections.config_flags": ["main"],
    "tensorboard": ["training.tensorboard"],
    "tensorflow": [],
}
JIT = ["training", "run", "estimators", "workdir.checkpoints"]


def modules():
    """{"networks.mlp": its syntax tree} of every module; a package's __init__ has the package's
    name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(
            path.read_text()
        )
    return found


MODULES = modules()


def imports(tree, top_level_only=False):
    """The full names that a module imports: "a.b" for `import a.b` and for `from a import b`."""
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def lies_in(name, places):
    return any(name == place or name.startswith(f"{place}.") for place in places)


def test_the_order_of_the_packages():
    assert {name.split(".")[0] for name in MODULES} == {*ORDER, ""}
    rank = {name: i for i, name in enumerate(ORDER)}
    wrong = []
    for name, tree in MODULES.items():
        for imported in imports(tree):
            top, *rest = imported.split(".")
            if top != "vae_jax" or not name or rest[0] not in rank:
                continue
            if rank[rest[0]] > rank[name.split(".")[0]]:
                wrong.append(f"{name} imports {imported}")
    assert not wrong


def test_pure_packages_neither_read_nor_compile():
    for name in (name for name in MODULES if lies_in(name, PURE)):
        nodes = [n for n in ast.walk(MODULES[name]) if isinstance(n, ast.Attribute | ast.Name)]
        forbidden = {"jax.jit", "open", "print", "ConfigDict", "logging"}
        assert not {ast.unparse(n) for n in nodes} & forbidden, name
        assert not lies_in(name, []) and not {
            i for i in imports(MODULES[name]) if i.startswith(("ml_collections", "pathlib", "os"))
        }, name


def test_confined_packages_and_jit_stay_where_they_are():
    wrong = []
    for name, tree in MODULES.items():
        for imported in imports(tree):
            for package, places in CONFINED.items():
                if lies_in(imported, [package]) and not lies_in(name, places):
                    wrong.append(f"{name} imports {imported}")
        jits = [
            n
            for n in ast.walk(tree)
            if isinstance(n, ast.Attribute) and ast.unparse(n) == "jax.jit"
        ]
        if jits and not lies_in(name, JIT):
            wrong.append(f"{name} uses jax.jit")
        slow = {i.split(".")[0] for i in imports(tree, top_level_only=True)} & SLOW
        wrong += [f"{name} imports {package} at its top" for package in slow]
        wrong += [
            f"{name} imports {i}"
            for i in imports(tree)
            if i.split(".")[0] in ("configs", "experiments", "tests")
        ]
    assert not wrong


def test_the_top_level_can_be_taken_in_at_a_glance():
    entries = [path for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 24


def test_functions_stay_small():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                inner = [
                    n for n in ast.walk(node) if isinstance(n, ast.FunctionDef) and n is not node
                ]
                own = (
                    node.end_lineno - node.lineno - sum(n.end_lineno - n.lineno + 1 for n in inner)
                )
                assert own < 70, f"{path.name}: {node.name}"
