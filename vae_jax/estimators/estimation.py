"""Which members of a run the estimators are for, and what becomes of their numbers: `evaluation` in results.json."""

from collections.abc import Callable
from pathlib import Path

import jax
from absl import logging

from vae_jax import estimators
from vae_jax.data import Dataset
from vae_jax.errors import UserError
from vae_jax.estimators import plots, words
from vae_jax.estimators.ais import violation
from vae_jax.parallel import processes
from vae_jax.parallel.processes import say
from vae_jax.run import Run
from vae_jax.workdir import ranking

ABOUT = ("member", "step", "params")  # what must agree for an older estimate to be kept beside a new one


def estimate_members(
    members: list[dict], before: list[dict], runs: dict[int, Callable[[], Run]], dataset: Dataset, check: Callable
) -> list[dict]:
    """The entries of `evaluation`, in the order of the members.

    Args:
      members: of results.json.
      before: an older `evaluation`; what it says of the same parameters and examples, and is not estimated now, stays.
      runs: of the members to be estimated.
      check: called between pieces of work; may raise, and the pieces are kept.
    """
    known = {_about(entry): entry for entry in before if _about(entry) in map(_about, members)}
    if not processes.is_main():  # processes would have to agree on every block: one computes, on its own devices
        return []
    check, models = check if jax.process_count() == 1 else lambda: None, {}
    for entry in (entry for entry in members if entry["member"] in runs and entry["diverged_at"] is None):
        if len(members) > 1:
            say(f"estimates of {ranking.named(entry)}")
        run = runs[entry["member"]]()
        # Members of one shape share one model, and with it what is compiled: all else of theirs is an argument.
        run.model = models.setdefault((repr(run.config.model), run.latent_dim), run.model)
        found = estimators.estimate(run, dataset, check)
        older = known.get(_about(entry), {})
        kept = dict(older) if all(older.get(key) == found[key] for key in ("seed", "examples")) else {}
        if "ais" in found and found["ais"] != kept.get("ais"):
            kept.pop("gaps", None)  # they were measured from another estimate
        known[_about(entry)] = {key: entry[key] for key in ABOUT} | kept | found
        for warning in words.warnings(found):
            logging.warning("%s", warning)
    return sorted(known.values(), key=lambda entry: entry["member"])


def _about(entry: dict) -> tuple:
    return tuple(entry.get(key) for key in ABOUT)


def draw(workdir: Path, folder: Path, evaluation: list[dict], members: list[dict], best: int, title: str) -> None:
    """The best member's pictures into `folder`, those of several into `workdir`."""
    entries = {entry["member"]: entry for entry in members}
    of_best = next((entry for entry in evaluation if entry["member"] == best), {})
    about = f"{title}, {ranking.named(entries[best])}" if len(members) > 1 else title
    plots.draw(folder, of_best, entries[best]["test"].get("unit_rate"), about)
    if len(members) > 1:
        named = [(ranking.named(entries[entry["member"]]), entry) for entry in evaluation]
        plots.draw_members(workdir, named, title)


def print_lines(evaluation: list[dict], members: list[dict]) -> None:
    entries = {entry["member"]: entry for entry in members}
    for entry in evaluation:
        who = "" if len(members) == 1 else f"{ranking.named(entries[entry['member']])}, "
        for name, numbers, _ in words.rows(entry):
            say(f"{who}{name}: {numbers}")


def raise_violations(evaluation: list[dict]) -> None:
    """Raises UserError where bounds contradict each other: then the numbers, which are written, are not to be used."""
    for entry in evaluation:
        found = words.known(entry)
        if "bdmc" in found and (wrong := violation(found["bdmc"])):
            raise UserError(
                f"member {entry['member']}: {wrong}; do not trust these numbers, which are in results.json: try more "
                "eval.ais_distributions and eval.bounds_examples, and report it as a bug if it stays"
            )
