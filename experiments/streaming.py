"""Does training on data larger than memory need constant memory, and is it as fast as on data in
memory?

Makes a file of 64x64 colour images, several gigabytes, in a temporary folder that is removed at the
end, and a small one of the same shape. Trains the same network for as many steps on each, every
time in a process of its own that
begins with the file not in memory: the small file resident and streamed, the large one streamed.
Anonymous memory (RssAnon of /proc/self/status) is what the process holds; pages of files are the
kernel's, which drops them at need.

    python3 experiments/streaming.py --output=experiments/streaming.md
    python3 experiments/streaming.py --gigabytes=0.5 --steps=200 --rounds=1
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

SHAPE = (64, 64, 3)
BLOCK = 4096
SMALL_BYTES = 200 * 2**20
CASES = {
    "small, resident": ("small", "yes"),
    "small, streamed": ("small", "no"),
    "large, streamed": ("large", "no"),
}


def make_file(path: Path, num_bytes: float) -> None:
    """uint8 [N, 64, 64, 3]: no two images alike, but cheap to make."""
    num = int(num_bytes / np.prod(SHAPE))
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (BLOCK, *SHAPE), np.uint8)
    x = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(num, *SHAPE))
    for start in range(0, num, BLOCK):
        part = x[start : start + BLOCK]
        part[:] = texture[: len(part)] // 4 + rng.integers(0, 192, (len(part), 1, 1, 3), np.uint8)
    x.flush()


def forget(path: Path) -> None:
    """Has the kernel drop the file from memory."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def field(path: str, name: str) -> int:
    """A number of a file in /proc/self, in its unit."""
    return int(re.search(rf"^{name}:\s+(\d+)", Path(path).read_text(), re.MULTILINE)[1])


def measure(path: Path, resident: str, steps: int) -> dict:
    """Trains in this process; MiB of anonymous memory, examples/s, CPU time of an example, MiB
    read from the disk."""
    import vae_jax  # here, so that the command is parsed at once
    from vae_jax import default

    config = default()
    config.data.update(
        name="file", path=str(path), num_valid=100, num_test=100, binarize="none", resident=resident
    )
    config.model.update(hidden=(32,), likelihood="gaussian")
    config.hypers.latent_dim = 8
    num = len(np.load(path, mmap_mode="r")) - 200
    config.train.num_epochs = steps * config.train.batch_size / num
    config.train.steps_per_call = 20
    config.hypers.beta_warmup_epochs = 0.0
    config.eval.update(every_epochs=1e9, nll_samples=1, samples_per_step=1)
    config.checkpoint.every_epochs = 1e9
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        timing, anonymous, rows, done = (
            Path(folder) / "run" / "timing.jsonl",
            [],
            [],
            threading.Event(),
        )

        def watch() -> None:
            while not done.wait(0.02):
                anonymous.append(field("/proc/self/status", "RssAnon") / 2**10)
                lines = timing.read_text().splitlines(keepends=True) if timing.exists() else []
                if len(lines) > len(rows) and lines[-1].endswith("\n"):
                    rows.extend(
                        [json.loads(lines[-1]) | {"cpu": time.process_time()}]
                        * (len(lines) - len(rows))
                    )

        watcher = threading.Thread(target=watch)
        watcher.start()
        vae_jax.train(config, Path(folder) / "run")
        done.set()
        watcher.join()
    first, last = (
        next(row for row in rows if row["step"] > 40),
        rows[-1],
    )  # compiled, and the first chunk read
    examples = (last["step"] - first["step"]) * config.train.batch_size
    return {
        "anonymous": max(anonymous),
        "examples_per_s": examples / (last["wall_time_s"] - first["wall_time_s"]),
        "cpu": (last["cpu"] - first["cpu"]) / examples * 1e6,
        "read": field("/proc/self/io", "read_bytes") / 2**20,
    }


def in_its_own_process(path: Path, resident: str, steps: int) -> dict:
    forget(path)
    command = [
        sys.executable,
        __file__,
        f"--measure={path}",
        f"--resident={resident}",
        f"--steps={steps}",
    ]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        raise SystemExit(found.stderr)
    return json.loads(found.stdout.splitlines()[-1])


def report(args, rounds: list[dict], sizes: dict[str, int]) -> str:
    speeds = {case: [r[case]["examples_per_s"] for r in rounds] for case in CASES}
    base = speeds["small, resident"]
    options = f"--gigabytes={args.gigabytes:g} --steps={args.steps} --rounds={args.rounds}"
    lines = [
        "# Streaming: data larger than memory",
        "",
        f"`python3 experiments/streaming.py {options}`",
        "",
        f"64x64 colour images, uint8; network 12288-32-8-32-12288, batches of 100, {args.steps:,} "
        "steps; each in a",
        f"process of its own whose file is not in memory when it begins. {platform.machine()}, "
        f"{len(os.sched_getaffinity(0))} CPU cores, shared",
        f"with other work. Medians of {args.rounds} interleaved rounds; the ratio is the median of "
        "the rounds' ratios.",
        "The network is so small that reading weighs as much as it can.",
        "",
        "| data | file | images | peak anonymous memory | read from disk | CPU time an example | "
        "examples/s | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case, (file, _) in CASES.items():
        middle = {k: statistics.median(r[case][k] for r in rounds) for k in rounds[0][case]}
        ratio = statistics.median(a / b for a, b in zip(speeds[case], base, strict=True))
        images = int(sizes[file] / np.prod(SHAPE))
        lines.append(
            f"| {case} | {sizes[file] / 2**20:,.0f} MiB | {images:,} | {middle['anonymous']:,.0f} "
            f"MiB | {middle['read']:,.0f} MiB | {middle['cpu']:,.0f} us | "
            f"{middle['examples_per_s']:,.0f} | {ratio:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--folder", help="where there is room for the files; default: the system's temporary folder"
    )
    parser.add_argument("--output", type=Path)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--resident", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.resident, args.steps)))
        return
    sizes = {"small": SMALL_BYTES, "large": int(args.gigabytes * 2**30)}
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        free, need = shutil.disk_usage(folder).free, sum(sizes.values()) + 2**30
        if free < need:
            raise SystemExit(
                f"{folder} has {free / 2**30:.1f} GiB free, but {need / 2**30:.1f} are needed: "
                "--folder"
            )
        files = {name: Path(folder) / f"{name}.npy" for name in sizes}
        for name, path in files.items():
            make_file(path, sizes[name])
        rounds = []
        for i in range(args.rounds):
            cases = list(CASES.items())
            found = {
                c: in_its_own_process(files[f], r, args.steps)
                for c, (f, r) in cases[i % 3 :] + cases[: i % 3]
            }
            print(json.dumps(found), flush=True)
            rounds.append(found)
    text = report(args, rounds, sizes)
    print(text)
    if args.output:
        args.output.write_text(text)


if __name__ == "__main__":
    main()
