"""A training epoch of `benchmark.py --part=epochs`, by whichever checkout of vae_jax is on the
path.

    PYTHONPATH=CHECKOUT python experiments/benchmark_epoch.py images.npy

loads the images (uint8 [60000, 28, 28, 1]) and then, for every number that it reads on standard
input, takes the epoch of that number and prints {"seconds": ..., "elbo": ...} on a line. The first
epoch compiles.

Functions and fields move between checkouts, so they are looked for in all the places where they
have been. A change that moves one adds a place here.
"""

import importlib
import json
import sys
import time

import numpy as np

BATCH, STEPS, LEARNING_RATE = 128, 60_000 // 128, 1e-3
HIDDEN, LATENT = 500, 20
PLACES = {
    "check": ["vae_jax.config"],
    "chunks": ["vae_jax.data.stream"],
    "store": ["vae_jax.data.stream"],
    "chunk_bounds": ["vae_jax.train", "vae_jax.training.loop"],
    "initial_state": ["vae_jax.train", "vae_jax.training.loop", "vae_jax.training.program"],
    "make_train_chunk": ["vae_jax.train", "vae_jax.training.loop", "vae_jax.training.program"],
    "make_program": ["vae_jax.program", "vae_jax.training.program"],
    "make_mesh": ["vae_jax.sharding", "vae_jax.parallel.devices"],
    "place": ["vae_jax.sharding", "vae_jax.parallel.devices"],
    "default": ["vae_jax.config", "vae_jax"],
    "catalogue": ["vae_jax.parts"],
    "Facts": ["vae_jax.training.program"],
}
FIELDS = {
    ("model.hidden", "network.hidden"): (HIDDEN,),
    ("model.activation", "network.activation"): "relu",
    ("model.likelihood", "likelihood.name"): "bernoulli",
    ("hypers.latent_dim",): LATENT,
    ("hypers.beta",): 1.0,
    ("hypers.beta_warmup_epochs",): 0.0,
    ("hypers.learning_rate",): LEARNING_RATE,
    ("hypers.lr_warmup_epochs",): 0.0,
    ("train.batch_size",): BATCH,
    ("train.lr_decay", "schedule.learning_rate"): "constant",
}


def find(name: str):
    """The function `name` of this checkout."""
    for place in PLACES[name]:
        try:
            return getattr(importlib.import_module(place), name)
        except (ImportError, AttributeError):
            continue
    raise ImportError(f"{name} is in none of {', '.join(PLACES[name])}: add its place to PLACES")


def make_config():
    config = find("default")()
    for names, value in FIELDS.items():
        places = [name.split(".") for name in names]
        section, field = next((s, f) for s, f in places if s in config and f in config[s])
        config[section][field] = value
    return config


def has(name: str) -> bool:
    """Whether this checkout has the function `name`."""
    try:
        return bool(find(name))
    except ImportError:
        return False


def make_state(x: np.ndarray, mesh):
    """(program, first state, split) of the training set x, by either kind of checkout."""
    from vae_jax import data

    config, mean = make_config(), x.mean(0, dtype=np.float32) / 255
    if has("catalogue"):
        parts = find("catalogue")()
        facts = find("Facts")(mean, len(x))
        program = find("make_program")(find("check")(config, parts), facts, parts)
        return program, find("initial_state")(program, mesh), data.Split(x, {}, np.arange(len(x)))
    program = find("make_program")(find("check")(config), mean, len(x))
    return program, find("initial_state")(program), data.Split(x, None, np.arange(len(x)))


def make_epoch(x: np.ndarray):
    """(epoch(number) -> mean training ELBO, number of parameters) of the training loop itself."""
    import jax

    place, train_mesh = find("place"), find("make_mesh")(1, BATCH)
    program, state, split = make_state(x, train_mesh)
    train_chunk = find("make_train_chunk")(program, train_mesh)
    store = place(train_mesh, find("store")(split))
    hypers = place(train_mesh, program.hypers, "member")
    state = place(train_mesh, state, "member")
    lengths = find("chunk_bounds")(0, STEPS, program.steps_per_call)
    chunks = find("chunks")

    def epoch(number: int) -> float:
        nonlocal state
        out, start = [], number * STEPS
        bounds = [(start + begin, start + end) for begin, end in lengths]
        for _, index in chunks(split, bounds=bounds, batch_size=BATCH, seed=0, resident=True):
            index = place(train_mesh, index, None, "data")
            state, *metrics_and_diverged_at = train_chunk(state, hypers, store, index)
            out.append(metrics_and_diverged_at)
            # Fetched one chunk late, as the loop does.
            out[-2:-1] = jax.tree.map(np.asarray, out[-2:-1])
        out[-1:] = jax.tree.map(np.asarray, out[-1:])
        jax.block_until_ready(state)
        assert all(np.all(diverged_at < 0) for _, diverged_at in out)
        return float(np.mean(np.concatenate([metrics["elbo"] for metrics, _ in out])))

    return epoch, sum(leaf.size for leaf in jax.tree.leaves(state.params))


def main() -> None:
    epoch, _ = make_epoch(np.load(sys.argv[1]))
    for line in sys.stdin:
        begin = time.perf_counter()
        elbo = epoch(int(line))
        print(json.dumps({"seconds": time.perf_counter() - begin, "elbo": elbo}), flush=True)


if __name__ == "__main__":
    main()
