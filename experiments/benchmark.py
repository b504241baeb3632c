"""How fast is training? Whole epochs beside PyTorch and beside the bare matrix products; and the time to start.

    python experiments/benchmark.py --rounds=5 --output=benchmark.md
    python experiments/benchmark.py --part=epochs --data=mnist --data_dir=...
    python experiments/benchmark.py --part=startup --data_dir=...

`--part=epochs`: 60,000 grey images of 784 pixels, binarized anew at every step; a VAE 784-500-20-500-784 with
ReLU and a Bernoulli likelihood; Adam at 1e-3, batches of 128, an epoch being the 468 full ones. By default the
images are synthetic, of MNIST's size, mean and contrast, because speed does not depend on what they show. After
one uncounted epoch each, which compiles, the contestants take one epoch each in turn, and a ratio is the median
of the ratios of the rounds, so that what disturbs a whole round cancels. Everything runs on the CPU.

    vae_jax    the training loop's own chunks of steps: the order of examples, the metrics' way to the host and
               what guards against divergence are in the time; validation and checkpoints are not
    PyTorch    the same network, initial distribution and loss, with what proved fastest on a CPU in all three:
               float32 images, `rand < x` (three times as fast as torch.bernoulli), fused Adam, a thread a core
    products   the 5 forward and 9 backward matrix products of a step alone: the floor

`--part=startup`: from the command `python -m vae_jax.main --config=configs/mnist.py` to the first logged training
step, with an empty cache of decoded data and compiled programs (cold) and with the one this left behind (warm).

Keep the machine otherwise idle: one busy core makes PyTorch's threads wait for each other, many times as long.
"""

import argparse
import gc
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import config as settings
from vae_jax import data, sharding
from vae_jax.data import stream
from vae_jax.likelihoods import bernoulli
from vae_jax.program import make_program
from vae_jax.train import chunk_bounds, initial_state, make_train_chunk

NUM, PIXELS, HIDDEN, LATENT = 60_000, 784, 500, 20
BATCH, STEPS, LEARNING_RATE = 128, 60_000 // 128, 1e-3
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
ROOT = Path(__file__).resolve().parents[1]
MAX_ELBO_GAP = 3.0  # nats, between contestants in the mean of their first epoch
TIMEOUT = 300.0  # seconds to wait for a first step


def synthetic() -> np.ndarray:
    """uint8 [60000, 28, 28, 1]: mean 0.13 and standard deviation 0.31 like MNIST's, made of ten causes."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((NUM, 10), np.float32) @ rng.standard_normal((10, PIXELS), np.float32)
    return (255 / (1 + np.exp(11 - 3 * logits))).astype(np.uint8).reshape(NUM, 28, 28, 1)


def mnist(data_dir: str) -> np.ndarray:
    """MNIST's whole training set, uint8 [60000, 28, 28, 1]."""
    x = data.load("mnist", data_dir=data_dir, num_valid=5000).train.x  # held-out rows included
    if len(x) != NUM:
        sys.exit(f"error: only {len(x)} of MNIST's {NUM} training images are to be had; set --data_dir")
    return np.asarray(x)


def vae_jax_epoch(x: np.ndarray, mean: np.ndarray):
    """(epoch(number) -> mean training ELBO, number of parameters) of the training loop's own path."""
    config = settings.default()
    config.model.update(hidden=(HIDDEN,), activation="relu")
    config.hypers.update(latent_dim=LATENT, learning_rate=LEARNING_RATE, lr_warmup_epochs=0.0)
    config.train.update(batch_size=BATCH, lr_decay="constant")
    program = make_program(settings.check(config), mean.reshape(x.shape[1:]), len(x))
    mesh = sharding.make_mesh(1, BATCH)
    train_chunk = make_train_chunk(program, mesh)
    split = data.Split(x, None, np.arange(len(x)))
    store, hypers = sharding.place(mesh, stream.store(split)), sharding.place(mesh, program.hypers, "member")
    state = sharding.place(mesh, initial_state(program), "member")
    lengths = chunk_bounds(0, STEPS, program.steps_per_call)

    def epoch(number: int) -> float:
        nonlocal state
        elbo, pending = [], []
        bounds = [(number * STEPS + begin, number * STEPS + end) for begin, end in lengths]
        for _, index in stream.chunks(split, bounds=bounds, batch_size=BATCH, seed=0, resident=True):
            index = sharding.place(mesh, index, None, "data")
            state, *out = train_chunk(state, hypers, store, index)
            pending.append(out)
            if len(pending) > 1:  # fetched one chunk late, as the loop does
                elbo.append(jax.tree.map(np.asarray, pending.pop(0))[0]["elbo"])
        metrics, diverged_at = jax.tree.map(np.asarray, pending.pop())
        jax.block_until_ready(state)
        assert np.all(diverged_at < 0)
        return float(np.mean(np.concatenate([*elbo, metrics["elbo"]]), dtype=np.float64))

    return epoch, sum(leaf.size for leaf in jax.tree.leaves(state.params))


def torch_vae(torch, mean: np.ndarray):
    """The network, with the initial distribution that vae_jax's has, and its loss on grey images [B, 784]."""
    linear, functional = torch.nn.Linear, torch.nn.functional
    layers = {
        "encoder": linear(PIXELS, HIDDEN),
        "mean": linear(HIDDEN, LATENT),
        "logvar": linear(HIDDEN, LATENT),
        "decoder": linear(LATENT, HIDDEN),
        "output": linear(HIDDEN, PIXELS),
    }
    with torch.no_grad():
        for layer in layers.values():
            torch.nn.init.xavier_uniform_(layer.weight)
            layer.bias.zero_()
        layers["output"].bias.copy_(torch.from_numpy(np.array(bernoulli().start(mean)[:, 0])))

    def loss_fn(net, grey):
        x = (torch.rand_like(grey) < grey).float()
        h = functional.relu(net["encoder"](x))
        mean, logvar = net["mean"](h), net["logvar"](h)
        z = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
        logits = net["output"](functional.relu(net["decoder"](z)))
        distortion = functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        rate = 0.5 * torch.sum(mean**2 + torch.exp(logvar) - logvar - 1)
        return (distortion + rate) / len(x)

    return torch.nn.ModuleDict(layers), loss_fn


def torch_epochs(x: np.ndarray, mean: np.ndarray) -> tuple[dict, int]:
    """({name: epoch(number) -> mean training ELBO}, number of parameters) of PyTorch."""
    try:
        import torch
    except ImportError:
        sys.exit('error: PyTorch is missing: pip install -e ".[benchmark]"')
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(0)
    torch.set_num_threads(CORES)
    images = torch.from_numpy(x.reshape(len(x), PIXELS)).float() / 255
    loader = DataLoader(TensorDataset(images), batch_size=BATCH, shuffle=True, drop_last=True)

    def loaded():
        return (batch for (batch,) in loader)

    def in_memory():
        order = torch.randperm(len(images))
        return (images[order[step * BATCH : (step + 1) * BATCH]] for step in range(STEPS))

    def make_epoch(batches, compile=lambda f: f):
        net, loss_fn = torch_vae(torch, mean)
        loss_fn, optimizer = compile(loss_fn), torch.optim.Adam(net.parameters(), LEARNING_RATE, fused=True)

        def epoch(_number: int) -> float:
            total, steps = 0.0, 0
            for batch in batches():
                optimizer.zero_grad()
                loss = loss_fn(net, batch)
                loss.backward()
                optimizer.step()
                total, steps = total - loss.item(), steps + 1
            assert steps == STEPS
            return total / steps

        return epoch, sum(p.numel() for p in net.parameters())

    made = {
        "PyTorch, DataLoader": make_epoch(loaded),
        "PyTorch, tensors in memory": make_epoch(in_memory),
        "PyTorch, torch.compile": make_epoch(in_memory, torch.compile),
    }
    return {name: epoch for name, (epoch, _) in made.items()}, made["PyTorch, DataLoader"][1]


def products_epoch():
    """epoch(number) of the matrix products alone: the gradient of a network in which nearly all is linear.

    Its last cotangent is its output, so that the products have real operands; no gradient is taken for x.
    """
    shapes = {"encoder": (PIXELS, HIDDEN), "mean": (HIDDEN, LATENT), "logvar": (HIDDEN, LATENT)}
    shapes |= {"decoder": (LATENT, HIDDEN), "output": (HIDDEN, PIXELS)}
    rng = np.random.default_rng(0)
    weights = {name: jnp.asarray(rng.normal(0, 0.05, shape), jnp.float32) for name, shape in shapes.items()}
    batches = jnp.asarray(rng.integers(0, 2, (8, BATCH, PIXELS)), jnp.float32)

    def half_square(w, x):
        h = x @ w["encoder"]
        z = (h @ w["mean"]) * (h @ w["logvar"])  # a product tells the two apart: equal work would be shared
        return 0.5 * jnp.sum((z @ w["decoder"] @ w["output"]) ** 2)

    @jax.jit
    def run(weights, batches):
        step = lambda _, i: (jax.grad(half_square)(weights, batches[i % len(batches)]), None)  # noqa: E731
        return jax.lax.scan(step, weights, jnp.arange(STEPS))[0]

    compiled = run.lower(weights, batches).compile().as_text()
    assert compiled.count(" dot(") in (0, 14), "not the 14 products of a step"  # 0: under another name
    return lambda _number: jax.block_until_ready(run(weights, batches)) and None


def measure(epochs: dict, rounds: int) -> tuple[dict, dict]:
    """({name: seconds [rounds]}, {name: (ELBO of the first epoch, of the last)}), interleaved."""
    seconds, elbo = {name: [] for name in epochs}, {name: [] for name in epochs}
    for number in range(rounds + 1):
        for name, epoch in epochs.items():
            gc.collect()
            time.sleep(0.3)  # until the threads of the one before have gone to sleep
            begin = time.perf_counter()
            elbo[name].append(epoch(number))
            seconds[name].append(time.perf_counter() - begin)
            what = f"round {number}" if number else "warm-up"
            print(f"{what}: {name} {seconds[name][-1]:.2f} s", file=sys.stderr, flush=True)
    return {n: np.asarray(s[1:]) for n, s in seconds.items()}, {n: (e[0], e[-1]) for n, e in elbo.items()}


def epochs_part(args) -> list[str]:
    x = mnist(args.data_dir) if args.data == "mnist" else synthetic()
    mean = x.reshape(NUM, PIXELS).mean(0, dtype=np.float32) / 255
    ours, num_params = vae_jax_epoch(x, mean)
    theirs, num_theirs = torch_epochs(x, mean)
    assert num_params == num_theirs, (num_params, num_theirs)
    floor = "matrix products alone"
    seconds, elbo = measure({"vae_jax": ours} | theirs | {floor: products_epoch()}, args.rounds)

    about = f"std {x.std(dtype=np.float64) / 255:.2f}; {num_params:,} parameters; {args.rounds} rounds."
    lines = [f"Images: {args.data}, mean {mean.mean():.2f}, {about}", ""]
    lines += ["| an epoch of | median s | min s | ratio | target | ELBO of first, last epoch |"]
    lines += ["|:--|--:|--:|:--|:--|:--|"]
    targets = {"PyTorch, DataLoader": ">= 3", "PyTorch, torch.compile": ">= 2", floor: "<= 1.6"}
    for name, s in seconds.items():
        ratio = seconds["vae_jax"] / s if name == floor else s / seconds["vae_jax"]
        what = "vae_jax takes {:.2f} x" if name == floor else "takes {:.2f} x vae_jax"
        ratio = what.format(np.median(ratio)) if name != "vae_jax" else ""
        nats = "{:.1f}, {:.1f}".format(*elbo[name]) if name != floor else ""
        lines += [f"| {name} | {np.median(s):.2f} | {s.min():.2f} | {ratio} | {targets.get(name, '')} | {nats} |"]
    gap = max(abs(elbo[name][0] - elbo["vae_jax"][0]) for name in theirs)
    assert gap < MAX_ELBO_GAP, f"not the same work: ELBOs of the first epoch {gap:.1f} nats apart: {elbo}"
    return lines


def first_step(cache: str, data_dir: str) -> tuple[float, str]:
    """(seconds from the command to the first row of training metrics, where the data came from)."""
    env = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    env |= {"VAE_JAX_CACHE": cache, "JAX_PLATFORMS": "cpu"}
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as output:
        workdir = Path(folder, "run")
        command = [sys.executable, "-m", "vae_jax.main", "--config=configs/mnist.py", f"--workdir={workdir}"]
        command += ["--config.train.num_epochs=1", "--config.train.steps_per_call=1"]
        command += ["--config.eval.every_epochs=1e-6", f"--config.data.data_dir={data_dir}"]  # rows at once
        begin = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=output)
        try:
            while not any(p.exists() and p.stat().st_size for p in workdir.glob("*.jsonl")):
                if process.poll() is not None or time.perf_counter() - begin > TIMEOUT:
                    output.seek(0)
                    sys.exit(f"error: no first training step:\n{output.read()[-2000:]}")
                time.sleep(0.01)
            seconds = time.perf_counter() - begin
        finally:
            process.kill()
            process.wait()
        return seconds, json.loads((workdir / "config.json").read_text())["dataset"]["source"]


def startup_part(args) -> list[str]:
    data_dir = str(Path(args.data_dir).resolve()) if args.data_dir else ""
    seconds = {"cold": [], "warm": []}
    for _ in range(args.startup_rounds):
        with tempfile.TemporaryDirectory() as cache:
            for name, s in seconds.items():
                number, source = first_step(cache, data_dir)
                s.append(number)
                print(f"startup: {name} {number:.1f} s", file=sys.stderr, flush=True)
    lines = [f"Time from the command to the first training step; MNIST's source: {source}.", ""]
    lines += ["| cache | median s | min s | target |", "|:--|--:|--:|:--|"]
    for (name, s), target in zip(seconds.items(), ("<= 12", "<= 6"), strict=True):
        lines += [f"| {name} | {np.median(s):.1f} | {min(s):.1f} | {target} |"]
    return lines


def header(load: float) -> list[str]:
    try:
        info = Path("/proc/cpuinfo").read_text()
        cpu = next(line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    names = ("vae_jax", "jax", "jaxlib", "numpy", "torch")
    found = [f"{name} {version(name)}" for name in names if name != "torch" or "torch" in sys.modules]
    return [
        f"`python experiments/benchmark.py {shlex.join(sys.argv[1:])}`".replace(" `", "`"),
        "",
        f"{cpu}, {CORES} cores, load {load:.1f} before the start; Python {platform.python_version()}, {', '.join(found)}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=("epochs", "startup", "both"), default="both")
    parser.add_argument("--rounds", type=int, default=5, help="counted epochs of each contestant")
    parser.add_argument("--startup_rounds", type=int, default=3, help="cold and warm starts")
    parser.add_argument("--data", choices=("synthetic", "mnist"), default="synthetic")
    parser.add_argument("--data_dir", default="", help="where prepared TFDS data lies")
    parser.add_argument("--output", default="", help="a Markdown file to write")
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    load, parts = os.getloadavg()[0], []
    if args.part != "epochs":  # first, while this process has threads of nobody else
        parts = ["", *startup_part(args)]
    if args.part != "startup":
        parts = ["", *epochs_part(args), *parts]
    text = "\n".join([*header(load), *parts]) + "\n"
    print(text, end="")
    if args.output:
        Path(args.output).write_text(text)


if __name__ == "__main__":
    main()
