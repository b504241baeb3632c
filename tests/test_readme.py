"""What the README shows works: its commands parse, its Python runs, its links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest

from vae_jax import main
from vae_jax.config import check

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [line for line in README.splitlines() if line.startswith("python3 -m vae_jax.main")]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_two_commands_come_first_and_alone():
    first, second = (block.strip() for block in blocks("bash")[:2])
    assert first == "python3 -m pip install -e . && python3 -m vae_jax.main --config=configs/mnist.py"
    assert second == 'python3 -m pip install -e ".[test]" && python3 -m pytest'


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_names_fields_that_exist(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    check(main.parse(shlex.split(command)[2:]).config)


def test_the_python_runs(tmp_path, monkeypatch, undrawn):
    monkeypatch.chdir(tmp_path)
    code = "\n".join(blocks("python"))
    quick = "num_epochs, config.eval.nll_samples = 1, 5"
    for slow, fast in (("num_epochs = 20", quick), ("num_samples=5000", "num_samples=5")):
        assert slow in code
        code = code.replace(slow, fast)
    scope = {}
    exec(code, scope)
    assert scope["y"].shape == (64, 8, 8, 1) and scope["log_p"].shape == (64,)
    assert scope["run"].hypers["target"] == 10.0


def test_every_link_leads_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
