"""The package as a wheel, installed in an environment of its own, away from the checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = """
import jax, vae_jax

config = vae_jax.default()
config.data.name, config.data.num_valid, config.data.num_test = "digits", 200, 300
config.network.hidden, config.train.num_epochs, config.eval.nll_samples = (20,), 1.0, 5
run = vae_jax.train(config, "run")
assert run.sample(jax.random.key(0), 4).shape == (4, 8, 8, 1)
print(vae_jax.__file__)
"""


@pytest.mark.slow
def test_a_wheel_in_an_empty_environment_trains_digits(tmp_path):
    source, wheels, home = tmp_path / "source", tmp_path / "wheels", tmp_path / "home"
    for name in ("vae_jax", "pyproject.toml", "README.md", "LICENSE"):
        of = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        source.mkdir(exist_ok=True)
        of(ROOT / name, source / name)
    home.mkdir()
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "XLA_FLAGS")}
    environment |= {"HOME": str(home), "JAX_PLATFORMS": "cpu"}

    def run(*command):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1200
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", wheels, source)
    run(sys.executable, "-m", "venv", "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", *wheels.glob("*.whl"))
    assert str(tmp_path / "venv") in run(python, "-c", SCRIPT)
    page = (tmp_path / "run" / "report.html").read_text()
    assert len(page) > 10_000 and "function explorer" in page
