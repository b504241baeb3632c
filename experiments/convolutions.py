"""How should a convolution be computed, and a population's? Training steps of small convolutional
VAEs.

    python3 experiments/convolutions.py --output=experiments/convolutions.md

A step of the training loop's own chunks (a `lax.scan` over steps) for populations of `--members`,
28x28 images in batches of 50, `network.channels=(16, 32)`: the 3x3 convolutions as the matrix
product of patches with the kernel, or as XLA's convolution, which for a population is a grouped
one; the members side by side (`vmap`) or one after another (`lax.map`). The last row computes the
networks in bfloat16. A second table has the members of an MLP, 784-200-200-32. All take their turns
in every round, every other round backwards; a ratio is the median of the ratios of the rounds. On a
CPU the package trains as in the first row of each table.
"""

import argparse
import functools
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import config as settings
from vae_jax.networks.layers import Conv
from vae_jax.parallel import devices, population
from vae_jax.parts import catalogue
from vae_jax.training.loop import initial_state
from vae_jax.training.program import Facts, make_program
from vae_jax.types import Example

BATCH, IMAGES = 50, 1000
PATCHES, XLA = Conv._patches, Conv._convolution
CONVOLUTIONS = {  # name: (how to convolve, whether one member after another, dtype)
    "patches, lax.map": (PATCHES, True, "float32"),
    "patches, vmap": (PATCHES, False, "float32"),
    "XLA's convolution, lax.map": (XLA, True, "float32"),
    "XLA's convolution, vmap": (XLA, False, "float32"),
    "patches, lax.map, bfloat16": (PATCHES, True, "bfloat16"),
}
MLPS = {"MLP, vmap": (None, False, "float32"), "MLP, lax.map": (None, True, "float32")}


def compiled_chunk(case: tuple, num_members: int, store):
    """run() -> milliseconds of a step, after the compilation."""
    convolve, one_by_one, dtype = case
    num_steps = 4 if convolve else 40
    parts = catalogue()
    config = parts.default()
    if convolve:
        config.network.update(name="conv", channels=(16, 32))
    config.hypers.latent_dim, config.train.batch_size, config.train.dtype = 32, BATCH, dtype
    config.sweep.seed = tuple(range(num_members))
    changes = [{"hypers.seed": i} for i in range(num_members)]
    facts = Facts(np.full((28, 28, 1), 0.13), IMAGES)
    program = make_program(settings.check(config, parts), facts, parts, changes)
    store = Example(store)
    step = population.lift(program.steps.train, (0, 0, None, None), one_by_one)
    chunk = jax.jit(
        lambda state, hypers, index: jax.lax.scan(
            lambda s, i: step(s, hypers, store, i), state, index
        )[0]
    )
    index = jnp.asarray(np.random.default_rng(0).integers(0, IMAGES, (num_steps, BATCH)), jnp.int32)
    state = initial_state(program, devices.make_mesh(num_members, BATCH))
    Conv._patches = (
        convolve or PATCHES
    )  # what the CPU's branch calls; traced here, so later changes do not matter
    compiled = chunk.lower(state, program.hypers, index).compile()
    Conv._patches = PATCHES

    def run() -> float:
        began = time.perf_counter()
        jax.block_until_ready(compiled(state, program.hypers, index))
        return (time.perf_counter() - began) / num_steps * 1e3

    assert population.size(program.hypers) == num_members
    run()
    return run


def table(cases: dict, num_members: int, rounds: int, store) -> list[str]:
    runs = {name: compiled_chunk(case, num_members, store) for name, case in cases.items()}
    ways = list(runs.values())
    times = [
        [run() for run in ways] if r % 2 else [run() for run in ways[::-1]][::-1]
        for r in range(rounds)
    ]
    times = np.array(times)
    lines = [f"{num_members} member{'s' * (num_members > 1)}; {rounds} rounds", ""]
    lines += ["| | median ms a step | ratio to the first |", "|:--|--:|--:|"]
    for name, column in zip(runs, times.T, strict=True):
        median = float(f"{np.median(column):.3g}")
        lines.append(f"| {name} | {median:g} | {np.median(column / times[:, 0]):.2f} |")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--members", default="1,4")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", default="", help="a Markdown file to write")
    args = parser.parse_args()
    store = jnp.asarray(np.random.default_rng(0).integers(0, 256, (IMAGES, 784), dtype=np.uint8))
    versions = ", ".join(f"{name} {version(name)}" for name in ("jax", "jaxlib"))
    lines = [
        f"    python3 experiments/convolutions.py --members={args.members} --rounds={args.rounds}",
        "",
    ]
    lines += [
        f"{os.cpu_count()} CPU cores; Python {platform.python_version()}, {versions}; "
        f"load of the machine before: {os.getloadavg()[0]:.1f} cores",
        "",
    ]
    make = functools.partial(table, rounds=args.rounds, store=store)
    for num_members in map(int, args.members.split(",")):
        lines += make(CONVOLUTIONS, num_members) + make(MLPS, num_members)
    text = "\n".join(lines)
    print(text)
    if args.output:
        Path(args.output).write_text(text)


if __name__ == "__main__":
    main()
