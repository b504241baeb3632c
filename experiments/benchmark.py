"""How fast is training? Whole epochs, beside PyTorch and the bare matrix products; and the time to
start.

    python experiments/benchmark.py --output=benchmark.md
    python experiments/benchmark.py --part=epochs --rounds=2 --data=mnist

`--part=epochs`: 60,000 grey images of 784 pixels, binarized anew at every step; a VAE
784-500-20-500-784 with ReLU and a Bernoulli likelihood; Adam at 1e-3; an epoch is its 468 full
batches of 128. The default images are
synthetic: speed does not depend on what they show. After an uncounted epoch each, which compiles,
each contestant takes an epoch in turn, on the CPU; a ratio is the median of the ratios of the
rounds.

    vae_jax    the training loop's own chunks: the order of examples, the metrics' way to the host
    and what
               guards against divergence are in the time; validation and files are not
    PyTorch    the same network, initial distribution and loss: the loop of the tutorials
               (DataLoader, Adam and torch.bernoulli as they come), then three that are tuned with
               what proved fastest: `rand < x` (a third of torch.bernoulli's time) and fused Adam (a
               quarter); all with float32 images and a thread a core
    products   the 5 forward and 9 backward matrix products of a step alone: the floor

`--part=epochs --against=CHECKOUT`: the same epochs of vae_jax alone, by another checkout (such as a
git worktree of the parent commit) and by this one: the ratio of their times, with its 95% interval.

`--part=startup`: from the command `python -m vae_jax.main --config=configs/mnist.py` to the first
training step, with an empty cache of decoded data and compiled programs (cold), then with what that
left there (warm).

`--part=members`: the time of a training step of populations of `--members` of the network of
configs/mnist.py (784-200-200-50, batches of 100), divided by the number of members, relative to the
first: chunks of the loop in turn. `--platform=cuda` measures it on a GPU.

`--part=importance`: samples a second of the importance-weighted bound, in evaluation's own loop,
against the same bound of the same parameters in PyTorch.

`--part=sweep`: one command that sweeps 16 seeds for 2 epochs of MNIST, against 16 commands of one
seed each, from
start to end: start-up, compilation (kept by the first for the others, as always), evaluation (10
importance samples) and pictures are in the time.

The machine must be idle otherwise: a single busy core makes PyTorch's threads wait for each other,
up to tens of times as long as the work takes.
"""

import argparse
import gc
import json
import math
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from benchmark_epoch import BATCH, HIDDEN, LATENT, LEARNING_RATE, STEPS, make_epoch

from vae_jax import __version__, data
from vae_jax import config as settings
from vae_jax.data import stream
from vae_jax.likelihoods.bernoulli import bernoulli
from vae_jax.metrics.importance_bound import bound
from vae_jax.parallel import devices, population
from vae_jax.parts import catalogue
from vae_jax.training.loop import initial_state, make_train_chunk
from vae_jax.training.program import Facts, Program, make_program

NUM, PIXELS = 60_000, 784
EXAMPLES, SAMPLES = 100, 1000
SHAPES = {"encoder": (PIXELS, HIDDEN), "mean": (HIDDEN, LATENT), "logvar": (HIDDEN, LATENT)}
SHAPES |= {"decoder": (LATENT, HIDDEN), "output": (HIDDEN, PIXELS)}
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
FLOOR = "matrix products alone"
TARGETS = {"PyTorch, DataLoader": ">= 3", "PyTorch, torch.compile, tuned": ">= 2", FLOOR: "<= 1.6"}
TARGETS |= {"cold": "<= 12", "warm": "<= 6"}


def grey_images(args) -> np.ndarray:
    """uint8 [60000, 28, 28, 1]: MNIST's training set, or about its mean and contrast, made of
    ten causes."""
    if args.data == "mnist":
        x = data.load(
            "mnist", data_dir=args.data_dir, num_valid=5000
        ).train.x  # of all splits of train
        if len(x) != NUM:
            sys.exit(
                f"error: only {len(x)} of MNIST's {NUM} training images are to be had; set "
                "--data_dir"
            )
        return np.array(x)
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((NUM, 10), np.float32) @ rng.standard_normal(
        (10, PIXELS), np.float32
    )
    return (255 / (1 + np.exp(11 - 3 * logits))).astype(np.uint8).reshape(NUM, 28, 28, 1)


def torch_vae(torch, mean: np.ndarray, tuned: bool = True):
    """The network, with the initial distribution that vae_jax's has, and its loss on grey images
    [B, 784]."""
    net = torch.nn.ModuleDict({name: torch.nn.Linear(*shape) for name, shape in SHAPES.items()})
    functional = torch.nn.functional
    with torch.no_grad():
        for layer in net.values():
            torch.nn.init.xavier_uniform_(layer.weight)
            layer.bias.zero_()
        net["output"].bias.copy_(torch.from_numpy(np.array(bernoulli().start(mean)[:, 0])))

    def loss_fn(grey):
        x = (torch.rand_like(grey) < grey).float() if tuned else torch.bernoulli(grey)
        h = functional.relu(net["encoder"](x))
        mean, logvar = net["mean"](h), net["logvar"](h)
        z = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
        logits = net["output"](functional.relu(net["decoder"](z)))
        distortion = functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        rate = 0.5 * torch.sum(mean**2 + torch.exp(logvar) - logvar - 1)
        return (distortion + rate) / len(x)

    return list(net.parameters()), loss_fn


def torch_epochs(x: np.ndarray, mean: np.ndarray) -> tuple[dict, int]:
    """({name: epoch(number) -> mean training ELBO}, number of parameters) of PyTorch."""
    try:
        import torch
    except ImportError:
        sys.exit('error: PyTorch is missing: pip install -e ".[benchmark]"')
    torch.manual_seed(0)
    torch.set_num_threads(CORES)
    images = torch.from_numpy(x.reshape(len(x), PIXELS)).float() / 255
    dataset = torch.utils.data.TensorDataset(images)
    loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, shuffle=True, drop_last=True)

    def loaded():
        return (batch for (batch,) in loader)

    def in_memory():
        order = torch.randperm(len(images))
        return (images[order[step * BATCH : (step + 1) * BATCH]] for step in range(STEPS))

    def make_epoch(batches, compile=lambda f: f, tuned=True):
        params, loss_fn = torch_vae(torch, mean, tuned)
        loss_fn, optimizer = (
            compile(loss_fn),
            torch.optim.Adam(params, LEARNING_RATE, fused=tuned or None),
        )

        def epoch(_number: int) -> float:
            losses = []
            for batch in batches():
                optimizer.zero_grad()
                loss = loss_fn(batch)
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            assert len(losses) == STEPS
            return -float(np.mean(losses))

        return epoch

    epochs = {
        "PyTorch, DataLoader": make_epoch(loaded, tuned=False),
        "PyTorch, DataLoader, tuned": make_epoch(loaded),
        "PyTorch, tensors in memory, tuned": make_epoch(in_memory),
        "PyTorch, torch.compile, tuned": make_epoch(in_memory, torch.compile),
    }
    return epochs, sum(p.numel() for p in torch_vae(torch, mean)[0])


def products_epoch():
    """epoch(number) of the matrix products alone, as the gradient of an all but linear network.

    The last cotangent is the output itself, so that every product has real operands; x needs no
    gradient.
    """
    rng = np.random.default_rng(0)
    weights = {
        name: jnp.asarray(rng.normal(0, 0.05, shape), jnp.float32) for name, shape in SHAPES.items()
    }
    batches = jnp.asarray(rng.integers(0, 2, (8, BATCH, PIXELS)), jnp.float32)

    def half_square(w, x):
        h = x @ w["encoder"]
        # A sum would give both the same gradient, computed once.
        z = (h @ w["mean"]) * (h @ w["logvar"])
        return 0.5 * jnp.sum((z @ w["decoder"] @ w["output"]) ** 2)

    @jax.jit
    def run(weights, batches):
        def step(_, i):
            return jax.grad(half_square)(weights, batches[i % len(batches)]), None

        return jax.lax.scan(step, weights, jnp.arange(STEPS))[0]

    compiled = run.lower(weights, batches).compile().as_text()
    # 0: they have another name.
    assert compiled.count(" dot(") in (0, 14), "not the 14 products of a step"
    return lambda _number: jax.block_until_ready(run(weights, batches)) and None


def measure(epochs: dict, rounds: int) -> tuple[dict, dict]:
    """{name: seconds [rounds]} and {name: ELBOs [1 + rounds]}, interleaved; the first epoch is
    not timed."""
    seconds, elbo = {name: [] for name in epochs}, {name: [] for name in epochs}
    for number in range(rounds + 1):
        for name, epoch in epochs.items():
            gc.collect()
            time.sleep(0.3)  # until the threads of the one before have gone to sleep
            begin = time.perf_counter()
            elbo[name].append(epoch(number))
            seconds[name].append(time.perf_counter() - begin)
            print(f"epoch {number}: {name} {seconds[name][-1]:.2f} s", file=sys.stderr, flush=True)
    return {name: np.asarray(s[1:]) for name, s in seconds.items()}, elbo


def epochs_part(args) -> list[str]:
    if args.against:
        return against_part(args)
    x = grey_images(args)
    mean = x.reshape(NUM, PIXELS).mean(0, dtype=np.float32) / 255
    (ours, num_params), (theirs, num_theirs) = make_epoch(x), torch_epochs(x, mean)
    assert num_params == num_theirs, (num_params, num_theirs)
    seconds, elbo = measure({"vae_jax": ours} | theirs | {FLOOR: products_epoch()}, args.rounds)
    for name in theirs:
        assert abs(elbo[name][0] - elbo["vae_jax"][0]) < 3, (
            f"not the same work, the ELBOs differ: {elbo}"
        )

    lines = [
        f"Images: {args.data}, mean {mean.mean():.2f}; {num_params:,} parameters; {args.rounds} "
        "rounds"
    ]
    lines += ["", "| an epoch of | median s | min s | ratio | target | ELBO of first, last epoch |"]
    lines += ["|:--|--:|--:|:--|:--|:--|"]
    for name, s in seconds.items():
        ratio = np.median(seconds["vae_jax"] / s if name == FLOOR else s / seconds["vae_jax"])
        shown = f"vae_jax: {ratio:.2f} x this" if name == FLOOR else f"{ratio:.2f} x vae_jax"
        nats = f"{elbo[name][0]:.1f}, {elbo[name][-1]:.1f}" if name != FLOOR else ""
        target = TARGETS.get(name, "")
        lines += [f"| {name} | {np.median(s):.2f} | {s.min():.2f} | {shown} | {target} | {nats} |"]
    return lines


def against_part(args) -> list[str]:
    """Epochs of another checkout and of this one in turn, each in a process of its own."""
    checkouts = {"old": Path(args.against).resolve(), "new": Path(__file__).resolve().parents[1]}
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/images.npy", grey_images(args))
        workers = {name: start_worker(path, folder) for name, path in checkouts.items()}
        found = {name: [] for name in workers}
        for number in range(args.rounds + 1):
            for name in sorted(workers, reverse=number % 2 == 1):  # so that neither is always first
                time.sleep(0.3)
                seconds, elbo = take_epoch(workers[name], number)
                found[name].append((seconds, elbo))
                print(f"epoch {number}: {name} {seconds:.2f} s", file=sys.stderr, flush=True)
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()
    elbos = {name: [elbo for _, elbo in epochs] for name, epochs in found.items()}
    difference = abs(elbos["old"][0] - elbos["new"][0])
    assert difference < 0.5, f"not the same work, the ELBOs differ: {elbos}"
    old = np.asarray([seconds for seconds, _ in found["old"][1:]])  # the first compiles
    new = np.asarray([seconds for seconds, _ in found["new"][1:]])
    low, high = median_interval(new / old)
    lines = [f"Images: {args.data}; {args.rounds} rounds", ""]
    lines += ["| an epoch of | median s | min s | ELBO of first, last epoch |", "|:--|--:|--:|:--|"]
    for name, s in (("old", old), ("new", new)):
        nats = f"{elbos[name][0]:.3f}, {elbos[name][-1]:.3f}"
        lines += [f"| {name} | {np.median(s):.3f} | {s.min():.3f} | {nats} |"]
    ratio = f"new / old: {np.median(new / old):.3f}, 95% interval {low:.3f} to {high:.3f}"
    return [*lines, "", f"Median of the ratios {ratio}."]


def start_worker(checkout: Path, folder: str) -> subprocess.Popen:
    worker = Path(__file__).with_name("benchmark_epoch.py")
    command = [sys.executable, str(worker), f"{folder}/images.npy"]
    env = os.environ | {"PYTHONPATH": str(checkout), "JAX_PLATFORMS": "cpu"}
    env |= {"PYTHONDONTWRITEBYTECODE": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, text=True, bufsize=1)


def take_epoch(worker: subprocess.Popen, number: int) -> tuple[float, float]:
    """(seconds, mean training ELBO) of the epoch `number`."""
    print(number, file=worker.stdin, flush=True)
    answer = worker.stdout.readline()
    if not answer:
        sys.exit(f"error: {shlex.join(worker.args)} ended")
    found = json.loads(answer)
    return found["seconds"], found["elbo"]


def median_interval(values: np.ndarray) -> tuple[float, float]:
    """The 95% confidence interval of the median, from order statistics (of six values or more).

    A median lies below k or more of n values with the probability of a binomial distribution.
    """
    n = len(values)
    tail = np.cumsum([math.comb(n, i) for i in range(n)]) / 2**n  # P(at most i values are below)
    k = int(np.sum(tail <= 0.025))
    ordered = np.sort(values)
    return float(ordered[k - 1]), float(ordered[n - k])


def first_step(cache: str, data_dir: str) -> tuple[float, str]:
    """(seconds from the command to the first row of training metrics, where the data came from)."""
    env = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    env |= {"VAE_JAX_CACHE": cache, "JAX_PLATFORMS": "cpu"}
    root = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as output:
        workdir = Path(folder, "run")
        command = [
            sys.executable,
            "-m",
            "vae_jax.main",
            "--config=configs/mnist.py",
            f"--workdir={workdir}",
        ]
        command += ["--config.train.num_epochs=1", "--config.train.steps_per_call=1"]
        command += [
            "--config.eval.every_epochs=1e-6"
        ]  # rows reach the disk before every validation
        command += [f"--config.data.data_dir={os.path.abspath(data_dir) if data_dir else ''}"]
        begin = time.perf_counter()
        process = subprocess.Popen(command, cwd=root, env=env, stdout=output, stderr=output)
        try:
            while not any(path.stat().st_size for path in workdir.glob("*.jsonl")):
                if process.poll() is not None or time.perf_counter() - begin > 300:
                    output.seek(0)
                    sys.exit(f"error: no first training step:\n{output.read()[-2000:]}")
                time.sleep(0.01)
            seconds = time.perf_counter() - begin
        finally:
            process.kill()
            process.wait()
        return seconds, json.loads((workdir / "config.json").read_text())["dataset"]["source"]


def startup_part(args) -> list[str]:
    seconds = {"cold": [], "warm": []}
    for _ in range(args.starts):
        with tempfile.TemporaryDirectory() as cache:
            for name, s in seconds.items():
                number, source = first_step(cache, args.data_dir)
                s.append(number)
                print(f"startup, {name}: {number:.1f} s", file=sys.stderr, flush=True)
    lines = [
        f"From the command to the first training step; MNIST's source: {source}; {args.starts} "
        "rounds"
    ]
    lines += ["", "| cache | median s | min s | target |", "|:--|--:|--:|:--|"]
    return lines + [
        f"| {n} | {np.median(s):.1f} | {min(s):.1f} | {TARGETS[n]} |" for n, s in seconds.items()
    ]


@devices.own_settings()
def members_part(args) -> list[str]:
    sizes = [int(n) for n in args.members.split(",")]
    x = grey_images(args)
    mean, split = (
        x.reshape(NUM, PIXELS).mean(0, dtype=np.float32) / 255,
        data.Split(x, {}, np.arange(NUM)),
    )
    chunks = {n: population_chunk(n, mean.reshape(x.shape[1:]), split) for n in sizes}
    seconds = {n: [] for n in sizes}
    for number in range(args.rounds + 1):
        for n, chunk in chunks.items():
            time.sleep(0.3)
            begin = time.perf_counter()
            steps = chunk(max(1, 16 // n))
            if number:  # the first compiles
                seconds[n].append((time.perf_counter() - begin) / steps)
    lines = [
        f"A step of populations on {jax.devices()[0].device_kind}; {args.rounds} rounds; target: "
        "16 <= 1.05 on a CPU"
    ]
    lines += [
        "",
        "| members | median ms a step | ms a member-step | relative to the first |",
        "|--:|--:|--:|--:|",
    ]
    for n, s in seconds.items():
        relative = np.median((np.asarray(s) / n) / (np.asarray(seconds[sizes[0]]) / sizes[0]))
        lines += [
            f"| {n} | {1e3 * np.median(s):.2f} | {1e3 * np.median(s) / n:.3f} | {relative:.2f} |"
        ]
    return lines


def program_of(mean: np.ndarray, changes: list[dict] | None = None) -> Program:
    """The program of the default configuration."""
    parts = catalogue()
    config = settings.check(parts.default(), parts)
    return make_program(config, Facts(mean, NUM), parts, changes)


def population_chunk(num_members: int, mean: np.ndarray, split):
    """chunk(repeats) -> steps taken, of a population that differs in its seeds."""
    program = program_of(mean, [{"hypers.seed": seed} for seed in range(num_members)])
    config = program.config
    mesh = devices.make_mesh(num_members, config.train.batch_size)
    train_chunk = make_train_chunk(program, mesh)
    store, hypers = (
        devices.place(mesh, stream.store(split)),
        devices.place(mesh, program.hypers, "member"),
    )
    state, steps = initial_state(program, mesh), 50

    def chunk(repeats: int) -> int:
        nonlocal state
        bounds = [(i * steps, (i + 1) * steps) for i in range(repeats)]
        batch_size = config.train.batch_size
        for _, index in stream.chunks(
            split, bounds=bounds, batch_size=batch_size, seed=0, resident=True
        ):
            state, *_ = train_chunk(state, hypers, store, devices.place(mesh, index, None, "data"))
        jax.block_until_ready(state)
        return repeats * steps

    return chunk


def sweep_part(args) -> list[str]:
    """One sweep of 16 seeds against 16 runs, as commands."""
    with tempfile.TemporaryDirectory() as folder:
        run_command(
            f"{folder}/data", f"{folder}/first", args, ["--config.train.num_epochs=0.01"]
        )  # decodes the data
        many, single = [], []
        for number in range(args.starts):
            caches = [
                shutil.copytree(f"{folder}/data", f"{folder}/cache{number}{kind}") for kind in "ab"
            ]
            for cache in caches:
                shutil.rmtree(Path(cache, "compiled"))
            seeds = "(" + ",".join(map(str, range(16))) + ")"
            many.append(
                run_command(
                    caches[0], f"{folder}/many{number}", args, [f"--config.sweep.seed={seeds}"]
                )
            )
            workdirs = [f"{folder}/single{number}.{seed}" for seed in range(16)]
            each = [
                run_command(caches[1], w, args, [f"--config.hypers.seed={i}"])
                for i, w in enumerate(workdirs)
            ]
            single.append(sum(each))
    ratio = np.median(np.asarray(single) / np.asarray(many))
    lines = [
        f"16 seeds of configs/mnist.py for 2 epochs, from command to end; {args.starts} rounds",
        "",
    ]
    lines += ["| | median s |", "|:--|--:|", f"| one sweep | {np.median(many):.0f} |"]
    return [
        *lines,
        f"| 16 commands | {np.median(single):.0f} |",
        "",
        f"The sweep is {ratio:.2f} x faster (target: >= 2.5).",
    ]


def run_command(cache: str, workdir: str, args, overrides: list[str]) -> float:
    """Seconds from the command to its end."""
    env = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    env |= {"VAE_JAX_CACHE": cache, "JAX_PLATFORMS": "cpu"}
    command = [
        sys.executable,
        "-m",
        "vae_jax.main",
        "--config=configs/mnist.py",
        f"--workdir={workdir}",
    ]
    command += ["--config.train.num_epochs=2", "--config.eval.nll_samples=10", *overrides]
    command += [f"--config.data.data_dir={os.path.abspath(args.data_dir) if args.data_dir else ''}"]
    begin = time.perf_counter()
    done = subprocess.run(
        command, cwd=Path(__file__).resolve().parents[1], env=env, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"error: {shlex.join(command)}:\n{done.stderr[-2000:]}")
    seconds = time.perf_counter() - begin
    print(f"{Path(workdir).name}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return seconds


def importance_part(args) -> list[str]:
    """Importance samples a second, for the bound of one batch of examples."""
    x = (np.random.default_rng(0).random((EXAMPLES, PIXELS)) < 0.13).astype(np.float32)
    program = program_of(np.full((28, 28, 1), 0.13))
    hypers = population.member(program.hypers, 0)
    params = program.steps.init(hypers).params
    per_step = program.config.eval.samples_per_step
    shape = EXAMPLES, SAMPLES, per_step
    ours = jax.jit(
        lambda key: (
            bound(program.model, params, x, key, np.arange(EXAMPLES), hypers, *shape[1:]).log_p
        )
    )
    contestants = {"vae_jax": lambda number: float(np.mean(ours(jax.random.key(number))))}
    if args.platform == "cpu":
        contestants |= torch_bounds(x, jax.tree.map(np.asarray, params), per_step)
    seconds, log_p = measure(contestants, args.rounds)
    for values in log_p.values():
        assert abs(values[0] - log_p["vae_jax"][0]) < 0.5, (
            f"not the same work, the bounds differ: {log_p}"
        )
    lines = [
        f"The bound of {EXAMPLES} examples x {SAMPLES:,} samples, {per_step} of each at a time, on "
        f"{args.platform}; "
    ]
    lines[0] += f"784-200-200-50; {args.rounds} rounds"
    lines += ["", "| | median samples/s | most | ratio | target |", "|:--|--:|--:|:--|:--|"]
    for name, s in seconds.items():
        ratio = (
            "" if name == "vae_jax" else f"vae_jax: {np.median(s / seconds['vae_jax']):.2f} x this"
        )
        rates = EXAMPLES * SAMPLES / np.median(s), EXAMPLES * SAMPLES / s.min()
        lines += [
            f"| {name} | {rates[0]:,.0f} | {rates[1]:,.0f} | {ratio} | {'>= 2' if ratio else ''} |"
        ]
    return lines


def torch_bounds(x: np.ndarray, params: dict, per_step: int) -> dict:
    """The same bound of the same model in PyTorch: as one would write it, and with what proved
    fastest."""
    import torch

    torch.set_num_threads(CORES)
    functional, x = torch.nn.functional, torch.from_numpy(x)
    encoder, decoder = (
        {name: (torch.tensor(p["kernel"]), torch.tensor(p["bias"])) for name, p in part.items()}
        for part in (params["encoder"], params["decoder"]["network"])
    )

    def make(tuned: bool):
        @torch.inference_mode()
        def run(number: int) -> float:
            torch.manual_seed(number)
            h, log_w = x, []
            for name in ("Dense_0", "Dense_1"):
                h = functional.relu(functional.linear(h, *encoder[name]))
            mean, logvar = (functional.linear(h, *encoder[name]) for name in ("mean", "logvar"))
            for _ in range(SAMPLES // per_step):
                eps = torch.randn(len(x), per_step, mean.shape[-1])
                z = mean[:, None] + torch.exp(0.5 * logvar)[:, None] * eps
                h = functional.relu(functional.linear(z, *decoder["Dense_0"]))
                h = functional.relu(functional.linear(h, *decoder["Dense_1"]))
                logits = functional.linear(h, *decoder["Dense_2"])
                if tuned:
                    log_p = torch.einsum("bkd,bd->bk", logits, x) - functional.softplus(logits).sum(
                        -1
                    )
                else:
                    target = x[:, None].expand_as(logits)
                    log_p = -functional.binary_cross_entropy_with_logits(
                        logits, target, reduction="none"
                    ).sum(-1)
                rest = (
                    eps**2 + logvar[:, None] - z**2
                )  # log p(z) - log q(z|x), twice; the constants cancel
                log_w.append(log_p + 0.5 * rest.sum(-1))
            return float((torch.logsumexp(torch.cat(log_w, 1), 1) - np.log(SAMPLES)).mean())

        return run

    return {
        "PyTorch, cross-entropy with logits": make(False),
        "PyTorch, softplus and einsum": make(True),
    }


def header() -> list[str]:
    info = Path("/proc/cpuinfo")
    names = (
        [line for line in info.read_text().splitlines() if "model name" in line]
        if info.exists()
        else []
    )
    cpu = names[0].split(":")[1].strip() if names else platform.processor()
    found = [f"{name} {version(name)}" for name in ("jax", "jaxlib", "numpy")]
    found = [f"vae_jax {__version__}", *found]
    found += [f"torch {sys.modules['torch'].__version__}"] if "torch" in sys.modules else []
    return [
        f"    {shlex.join(['python', 'experiments/benchmark.py', *sys.argv[1:]])}",
        "",
        f"{cpu}, {CORES} cores; Python {platform.python_version()}, {', '.join(found)}",
    ]


# What runs whole commands comes first: this process has no threads of its own then.
PARTS = {
    "startup": startup_part,
    "sweep": sweep_part,
    "epochs": epochs_part,
    "members": members_part,
    "importance": importance_part,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=(*PARTS, "all"), default="all")
    parser.add_argument("--rounds", type=int, help="counted epochs or chunks; 5, or 20 against")
    parser.add_argument("--against", default="", help="of the epochs: another checkout")
    parser.add_argument("--starts", type=int, default=3, help="rounds of what runs whole commands")
    parser.add_argument("--members", default="1,4,16", help="sizes of the populations")
    parser.add_argument(
        "--platform", default="cpu", help="of members and importance: cpu, cuda or tpu"
    )
    parser.add_argument(
        "--data", choices=("synthetic", "mnist"), default="synthetic", help="of the epochs"
    )
    parser.add_argument(
        "--data_dir", default="", help="where TFDS has prepared mnist, instead of a download"
    )
    parser.add_argument("--output", default="", help="a Markdown file to write")
    args = parser.parse_args()
    args.rounds = args.rounds or (20 if args.against else 5)
    if args.against and (args.part != "epochs" or args.rounds < 6):
        parser.error("--against needs --part=epochs and 6 rounds or more")
    jax.config.update("jax_platforms", args.platform)
    lines = [f"Load of the machine before: {os.getloadavg()[0]:.1f} cores"]
    for name, part in PARTS.items():
        lines += ["", *part(args)] if args.part in (name, "all") else []
    text = "\n".join([*header(), *lines]) + "\n"
    print(text, end="")
    if args.output:
        Path(args.output).write_text(text)


if __name__ == "__main__":
    main()
