"""What a finished training leaves to look at: results.json (an entry for each member: `_describe`),
tables, pictures, and a few lines on the terminal."""

from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from vae_jax import config as settings
from vae_jax.config import Catalogue
from vae_jax.data import Dataset, scan
from vae_jax.data.kinds import Scaling
from vae_jax.errors import Attempts, UserError, cause
from vae_jax.estimators.members import (
    draw_estimates,
    estimate_members,
    print_estimates,
    raise_violations,
)
from vae_jax.parallel import devices, population, processes
from vae_jax.parallel.processes import say
from vae_jax.plots import base, heat_maps, rate_distortion, strips
from vae_jax.plots.member import draw_pictures, style_of
from vae_jax.results import explorer, page, sweep_table
from vae_jax.run import Run
from vae_jax.training import tensorboard
from vae_jax.training.evaluation import Evaluation, Evaluator, summarize
from vae_jax.training.program import Program, chosen_params, which_params
from vae_jax.training.signals import catch_signals
from vae_jax.types import Params, TrainState
from vae_jax.workdir import files, ranking, record, rows

NUM_IN_STRIP = 16  # samples in a row of strips.png
# What is made after training, of which results.json keeps digests.
MADE = ("*.png", "members/*/*.png", "sweep.csv", "report.html", "examples.npz", "fitted_prior.npz")
MADE += (explorer.FILE, f"members/*/{explorer.FILE}")
FIRST_STEPS = 10  # a loss that is not finite before is the data's fault, where values are
LARGE = 10.0  # to the encoder, which expects about 1


class Outcome:
    """The numbers of a run or sweep, gathered program by program.

    With `resume`, as training has it, results.json is written after each program, and what it holds
    already at this step and with these settings is not evaluated again: the same noise would give
    the same numbers. Without, what was there before stays until everything is evaluated.
    """

    def __init__(
        self,
        workdir: Path,
        description: dict,
        dataset: Dataset,
        stop: catch_signals,
        resume: bool,
    ):
        self.workdir, self.description = workdir, description
        self.dataset, self.stop, self.check, self.resume = dataset, stop, stop.check, resume
        self.programs: list[Program] = []
        self.images: dict[int, np.ndarray] = {}
        self.params: dict[int, Params] = {}
        self.fitted: dict[str, np.ndarray] = {}
        before = files.read_json(workdir / "results.json") or {}
        self.stored, self.estimates = before if resume else {}, before.get("evaluation", [])
        self.examples = files.read_arrays(workdir / "examples.npz") if self.stored else {}
        self.entries: dict[int, dict] = {}
        self.command = None
        self.attempts = Attempts(stop.interrupt)
        processes.wait_for_all("outcome")  # nobody writes before everybody has read

    def add(self, evaluator: Evaluator, state: TrainState) -> None:
        """Evaluates valid and test, whole, for the members of the evaluator's program."""
        program = evaluator.program
        evaluation, members = program.config.eval, program.members
        self.settings = {name: evaluation[name] for name in ("params", "seed", "nll_samples")}
        about = _describe(program, state)
        if all(entry["diverged_at"] is not None for entry in about) and not program.name:
            large = large_values(self.dataset, record.scaling_of(self.description))
            raise_diverged(about, self.workdir, large)
        params = chosen_params(state, which_params(program.config))
        if program.model.fit_prior is not None:
            params = evaluator.fit_prior(params, self.dataset.train, self.check)
            for name, arrays in devices.fetch(params["prior"]).items():
                self.fitted |= {f"{name}/{m}": arrays[i] for i, m in enumerate(members)}
        stored = self._stored(about)
        self.dataset.check_unchanged()
        numbers = stored or self._evaluate(evaluator, params)
        self.dataset.check_unchanged()
        for entry, found in zip(about, numbers, strict=True):
            self.entries[entry["member"]] = entry | found
        compared = program.name or len(members) > 1  # a single run has no strips to compare
        if compared and program.model.sample_prior:
            images = evaluator.sample(params, evaluation.seed, NUM_IN_STRIP, self._conditions())
            self.images |= dict(zip(members, images, strict=False))
        self.programs.append(program)
        best = ranking.best(self._members())
        if best in members and not evaluation.all_members:
            self.params = {}
        for i, member in enumerate(members):
            if member == best or evaluation.all_members:
                self.params[member] = devices.fetch(population.member(params, i))
        if self.resume and not stored:
            self._write(self._results(complete=False))

    def _conditions(self) -> dict | None:
        """Those of the first test examples, one for each sample of a strip."""
        positions = np.arange(NUM_IN_STRIP) % self.dataset.test.num
        return self.dataset.test.examples(positions).condition

    def _evaluate(self, evaluator: Evaluator, params) -> list[dict]:
        program = evaluator.program
        num_samples, numbers = program.config.eval.nll_samples, []
        for name in ("valid", "test"):
            split = getattr(self.dataset, name)
            who = "" if len(program.members) == 1 else f" x {len(program.members)} members"
            samples = (
                "" if program.model.log_joint is None else f" x {num_samples:,} importance samples"
            )
            say(f"evaluating {name}: {split.num:,} examples{samples}{who}")
            found = evaluator.evaluate(params, split, name, num_samples, self.check, decode=True)
            numbers.append([{name: row} for row in summarize(program, found, num_samples)])
        for i, member in enumerate(program.members):
            one: Evaluation = population.member(found, i)
            known = {"distortion": one.distortion}
            if one.log_p is not None:
                known = {"log_p": one.log_p, "elbo": -(one.distortion + one.rate)}
            self.examples |= {f"{name}/{member}": values for name, values in known.items()}
        return [valid | test for valid, test in zip(*numbers, strict=True)][: len(program.members)]

    def _stored(self, about: list[dict]) -> list[dict] | None:
        """The numbers of these members in results.json, if they are those of this very state."""
        entries = {entry["member"]: entry for entry in self.stored.get("members", ())}
        found = [entries.get(entry["member"], {}) for entry in about]
        current = self.stored.get("eval") == self.settings and all(
            (f.get("step"), f.get("params")) == (entry["step"], entry["params"])
            and any(
                f"{name}/{entry['member']}" in self.examples for name in ("log_p", "distortion")
            )
            for f, entry in zip(found, about, strict=True)
        )
        return (
            [{split: f[split] for split in ("valid", "test")} for f in found] if current else None
        )

    def _members(self) -> list[dict]:
        return [self.entries[i] for i in sorted(self.entries)]

    def _results(self, complete: bool) -> dict:
        """What results.json is to hold."""
        members, timing = self._members(), rows.read_rows(self.workdir / "timing.jsonl")
        best = ranking.best(members)
        longest = max(members, key=lambda member: member["step"])
        return {
            "dataset": self.description,
            "step": longest["step"],
            "epoch": longest["epoch"],
            "wall_time_s": timing[-1]["wall_time_s"] if timing else None,
            "examples_per_s": float(np.median([row["examples_per_s"] for row in timing]))
            if timing
            else None,
            "complete": complete,
            "eval": self.settings,
            "best_member": best,
            "best_command": self.command,
            "members": members,
            "evaluation": self.estimates,
            "failed": {name: cause(error) for name, error in self.attempts.errors.items()},
        }

    def _write(self, results: dict) -> None:
        """Writes what the numbers come from, then results.json, which says what there is."""
        files.write_arrays(self.workdir / "examples.npz", self.examples)
        if self.fitted:
            files.write_arrays(self.workdir / "fitted_prior.npz", self.fitted)
        results = results | {"files": files.digests(self.workdir, *MADE)}
        files.write_json(self.workdir / "results.json", results)

    def finish(self, own: list[str]) -> None:
        """Tables, pictures, results.json as complete as the training is, and the summary.

        `own`: what came as Python objects; with such parts no command can reproduce a member.
        """
        members, catalogue = self._members(), self.programs[0].catalogue
        estimators = catalogue.parts["estimator"]
        self.examples = {
            name: a for name, a in self.examples.items() if int(name.split("/")[1]) in self.entries
        }
        done, best = self._is_done(), ranking.best(members)
        if best is None:
            self._write(self._results(complete=done))
            raise_diverged(members, self.workdir)
        if not own:
            alone = self._alone(best)
            self.command = settings.as_command(alone.config, alone.catalogue)
        if len(members) > 1:
            sweep_table.write_csv(self.workdir / "sweep.csv", members)
        evaluation = self.programs[0].config.eval
        runs = {m: partial(self._run, m) for m in self.params} if evaluation.estimators else {}
        attempt = self.attempts.attempt
        self.estimates = estimate_members(
            members, self.estimates, runs, self.dataset, self.check, attempt
        )
        say("drawing")
        with self.stop.at_once():
            if processes.is_main():
                with attempt("pictures"), base.own_style():
                    self._draw(members)
                if evaluation.tensorboard:
                    steps = {member["member"]: member["step"] for member in members}
                    tensorboard.write_pictures(self.workdir, self.programs, steps)
                self._remove_pictures(list(self.attempts.errors))
                with attempt("report.html"):
                    page.write(self.workdir, catalogue, self._results(complete=done))
            self.check()
            results = self._results(complete=done)
            self._write(results)  # "complete" comes last
        print_summary(results, self.workdir, catalogue)
        processes.wait_for_all("finished")  # nobody reads before everything is written
        raise_violations(self.estimates, estimators)
        _raise_failed(self.attempts.errors, self.workdir)

    def _remove_pictures(self, names: list[str]) -> None:
        """Removes older pictures, of other numbers, where there are no new ones."""
        for folder in (self.workdir, *self.workdir.glob("members/*")):
            for name in names:
                if name.endswith(".png") or name == explorer.FILE:
                    (folder / name).unlink(missing_ok=True)

    def _is_done(self) -> bool:
        """Whether every member has come to its last step, or ended before."""

        def ended(program: Program) -> bool:
            reached = self.entries[program.members[0]]["step"] >= program.total_steps
            return reached or all(has_ended(self.entries[i]) for i in program.members)

        return all(ended(program) for program in self.programs)

    def _alone(self, member: int) -> Program:
        program = next(program for program in self.programs if member in program.members)
        return program.alone(program.changes[program.members.index(member)])

    def _run(self, member: int) -> Run:
        return Run(
            self.workdir,
            self._alone(member),
            member,
            self.params[member],
            self.entries[member]["step"],
            None,
        )

    def _draw(self, members: list[dict]) -> None:
        best: Any = ranking.best(members)  # `finish` has seen that there is one
        folder, about = self.workdir, record.dataset_name(self.description)
        run, attempt = self._run(best), self.attempts.attempt
        if len(members) > 1:
            title = f"{about}, {len(members)} members, epoch {self.entries[best]['epoch']:.4g}"
            if any(ranking.metric_of(member, "test", "rate") >= 0 for member in members):
                with attempt("rate_distortion.png"):
                    path = self.workdir / "rate_distortion.png"
                    rate_distortion.draw(path, members, f"{title}, test")
            with attempt("heat_maps.png"):
                heat_maps.draw(self.workdir / "heat_maps.png", members, f"{title}, test")
            if sampled := [member for member in members if member["member"] in self.images]:
                with attempt("strips.png"):
                    images = np.stack([self.images[member["member"]] for member in sampled])
                    title = f"E[x|z], the same z ~ p(z) noise in every row\n{title}"
                    style = style_of(run, self.dataset)
                    strips.draw(self.workdir / "strips.png", sampled, images, title, style)
            folder = self.workdir / "members" / str(best)
            folder.mkdir(parents=True, exist_ok=True)
        draw_pictures(run, self.dataset, folder, about, self.entries[best], attempt)
        with attempt(explorer.FILE):
            explorer.write(run, self.dataset, folder, self.entries[best])
        title = f"{about}, epoch {self.entries[best]['epoch']:.4g}"
        title += f", beta {self.entries[best]['hypers']['beta']:g}" if len(members) == 1 else ""
        estimators = self.programs[0].catalogue.parts["estimator"]
        shown = (self.workdir, folder, self.estimates, members, best, title)
        draw_estimates(*shown, estimators, attempt)


def _describe(program: Program, state: TrainState) -> list[dict]:
    """What results.json says of each member besides its numbers."""
    at = {
        "diverged_at": state.diverged_at,
        "stopped_at": state.stopped_at,
        "best_step": state.best.step,
    }
    steps, at = devices.fetch((state.step, at))
    return [
        {
            "member": member,
            "swept": program.changes[i],
            "hypers": {
                k: program.changes[i].get(f"hypers.{k}", v)
                for k, v in program.config.hypers.items()
            },
            "step": int(steps[i]),
            "epoch": int(steps[i]) / program.steps_per_epoch,
        }
        | {name: None if values[i] < 0 else int(values[i]) for name, values in at.items()}
        | {"params": which_params(program.config)}
        for i, member in enumerate(program.members)
    ]


def has_ended(entry: dict) -> bool:
    """Whether a member of results.json ended before its last step: it diverged, or was stopped."""
    return entry["diverged_at"] is not None or entry["stopped_at"] is not None


def large_values(dataset: Dataset, scaling: Scaling | None) -> str:
    """The columns of the training data that are largest to the encoder; "" where none is large."""
    largest = scan.largest(dataset.train, scaling)
    unit = " standard deviations" if scaling else ""
    names = dataset.value_names or [f"value {i}" for i in range(len(largest))]
    order = [i for i in np.argsort(-largest, kind="stable")[:3] if largest[i] > LARGE]
    return ", ".join(f"{names[i]} ({largest[i]:.3g}{unit})" for i in order)


def raise_diverged(members: list[dict], workdir: Path, large: str = "") -> NoReturn:
    """Raises UserError; it names the `large` values where the very first steps failed."""
    at = dict.fromkeys(m["diverged_at"] for m in members if m["diverged_at"] is not None)
    steps = ", ".join(map(str, at))
    if large and min(at) < FIRST_STEPS:
        raise UserError(
            f"the loss is not finite at step {steps}: values are too large to the encoder, of "
            f'{large}: look for outliers there, or scale them (data.scale="range")'
        )
    if not steps:
        raise UserError(
            "no member has a finite NLL or ELBO on the validation split; look at its data, or "
            f"{workdir}"
        )
    raise UserError(
        f"the loss is not finite at step {steps}; the last good parameters are saved in "
        f"{workdir / 'checkpoints'}: try a smaller hypers.learning_rate or hypers.clip_norm in "
        "another --workdir"
    )


def _raise_failed(errors: dict[str, Exception], workdir: Path) -> None:
    """Raises UserError if anything could not be made."""
    if errors:
        first = next(iter(errors.values()))
        raise UserError(
            f"{', '.join(errors)}: not made ({cause(first)}); everything else is in {workdir}. The "
            "same command tries again, and --debug shows where it fails"
        ) from first


def print_summary(results: dict, workdir: Path, catalogue: Catalogue) -> None:
    data, members = results["dataset"], results["members"]
    say(
        f"{record.dataset_name(data)}: {data['num_train']:,} train, {data['num_valid']:,} valid, "
        f"{data['num_test']:,} test examples; binarization {data['binarization']}"
    )
    if len(members) > 1:
        say(sweep_table.text(members))
    best = next((member for member in members if member["member"] == results["best_member"]), None)
    if best is None:
        raise_diverged(members, workdir)
    who = "" if len(members) == 1 else f"member {best['member']}, "
    for split in ("valid", "test"):
        say(f"{who}{split}: {_line(best[split])}")
    if len(members) > 1 and results["best_command"]:
        say(f"that member alone: {results['best_command']}")
    estimators = catalogue.parts["estimator"]
    print_estimates(results.get("evaluation", []), members, estimators)
    files = "results.json, metrics.jsonl and the pictures"
    say(f"wrote {workdir}: {files if len(members) == 1 else f'sweep.csv, {files}'}")
    say(f"to look at all of it: {workdir / 'report.html'}")


def _line(n: dict) -> str:
    """The numbers of a split that there are."""
    error = "" if n["nll_stderr"] is None else f" +- {n['nll_stderr']:.2f}"
    parts = {
        "nll": f"NLL {{:.2f}}{error} nats ({n['nll_samples']} samples)",
        "effective_samples": "{:.3g} of them effective",
        "elbo": "ELBO {:.2f}",
        "distortion": "distortion {:.2f}",
        "rate": "rate {:.2f}",
        "active_units": "{} active units",
        "bits_per_dim": "{:.4f} bits per dimension",
        "mse": "squared error {:.4f} per value",
    }
    for name, form in (("rate", "{:.2f}"), ("active_units", "{}")):
        of_layers = [layer.get(name) for layer in (n.get("layers") or {}).values()]
        if of_layers and None not in of_layers:
            parts[name] += f" ({' + '.join(map(form.format, of_layers))})"
    return ", ".join(
        form.format(n[name]) for name, form in parts.items() if n.get(name) is not None
    )
