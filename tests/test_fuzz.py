"""Random damage to the files of a run is found, in one line, or harmless.

    FUZZ_CASES=2000 FUZZ_SEED=7 python3 -m pytest tests/test_fuzz.py

A case that fails is named by its number, and is the same again with FUZZ_SEED and FUZZ_CASE.
"""

import logging
import os
import shutil

import conftest
import jax
import numpy as np
import pytest

import vae_jax
from vae_jax.errors import UserError
from vae_jax.results import compare

CASES, SEED = int(os.environ.get("FUZZ_CASES", 15)), int(os.environ.get("FUZZ_SEED", 0))
ONLY = os.environ.get("FUZZ_CASE")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    config, images = conftest.config.__wrapped__(), conftest.images.__wrapped__()
    config.train.num_epochs, config.checkpoint.every_epochs = 1.0, 0.5
    workdir = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vae_jax.results.finish.Outcome._draw", lambda *_: None)
        run = vae_jax.train(config, workdir, dataset=images)
    return workdir, config, images, run


def flip(path, content, rng):
    damaged = bytearray(content)
    damaged[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    path.write_bytes(damaged)


def cut(path, content, rng):
    path.write_bytes(content[: rng.integers(len(content))])


def replace(path, content, rng):
    path.write_bytes(rng.bytes(int(rng.integers(1, 200))))


def remove(path, content, rng):
    path.unlink()


def become_a_folder(path, content, rng):
    path.unlink()
    path.mkdir()


def repeat(path, content, rng):
    path.write_bytes(content + content)


DAMAGES = (flip, flip, flip, cut, replace, remove, become_a_folder, repeat)


def commands(workdir, config, images):
    return {
        "train": lambda: vae_jax.train(config, workdir, dataset=images),
        "evaluate": lambda: vae_jax.evaluate(workdir, dataset=images),
        "load": lambda: vae_jax.load(workdir),
        "report": lambda: vae_jax.report(workdir),
        "compare": lambda: compare.compare(f"{workdir},{workdir}"),
    }


def test_damaged_files_are_found_or_harmless(finished, tmp_path, undrawn, caplog):
    whole, config, images, original = finished
    files = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file())
    for case in [int(ONLY)] if ONLY else range(CASES):
        rng, workdir = np.random.default_rng([SEED, case]), tmp_path / "run"
        shutil.copytree(whole, workdir)
        # Half of them beside the checkpoints, which are many files.
        some = [f for f in files if "checkpoints" not in f.parts] if rng.random() < 0.5 else files
        file, damage = some[rng.integers(len(some))], DAMAGES[rng.integers(len(DAMAGES))]
        content = (workdir / file).read_bytes()
        if content:
            damage(workdir / file, content, rng)
        name, command = list(commands(workdir, config, images).items())[rng.integers(5)]
        caplog.clear()
        try:
            command()
            run = vae_jax.load(workdir)
        except UserError as error:
            assert "\n" not in str(error)
        except Exception as error:
            raise AssertionError(f"case {case}: {damage.__name__} {file}, {name}") from error
        else:
            warned = [r for r in caplog.records if r.levelno >= logging.WARNING]
            same = jax.tree.map(np.array_equal, run.params, original.params)
            equal = run.step == original.step and all(jax.tree.leaves(same))
            equal &= (run.results or original.results)["members"] == original.results["members"]
            assert equal or warned, f"case {case}: {damage.__name__} {file}, {name}"
        shutil.rmtree(workdir)
