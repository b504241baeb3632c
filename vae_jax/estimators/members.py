"""Which members of a run are estimated, and what happens to their numbers: they are `evaluation` in
results.json."""

from collections.abc import Callable
from pathlib import Path

import jax
from absl import logging

from vae_jax import estimators
from vae_jax.data import Dataset
from vae_jax.errors import Attempt, UserError
from vae_jax.estimators import bounds_plot, words
from vae_jax.estimators.estimator import Estimator
from vae_jax.estimators.task import model_settings
from vae_jax.parallel import processes
from vae_jax.parallel.processes import say
from vae_jax.run import Run
from vae_jax.training.evaluation import never_stops
from vae_jax.workdir import files, ranking

ABOUT = ("member", "step", "params")  # what must agree for an older estimate to be kept


def estimate_members(
    members: list[dict],
    before: list[dict],
    runs: dict[int, Callable[[], Run]],
    dataset: Dataset,
    check: Callable[[], None],
    attempt: Attempt,
) -> list[dict]:
    """The entries of `evaluation`, in the order of the members.

    Args:
      members: of results.json.
      before: an older `evaluation`, whose numbers of the same parameters and examples are kept
        where they are not estimated now.
      runs: of the members to be estimated.
      check: called between pieces of work; may raise, and the pieces are kept.
      attempt: of each estimator and member.
    """
    about = [_about(entry) for entry in members]
    entries = {_about(entry): entry for entry in before if _about(entry) in about}
    if not processes.is_main():  # processes would have to agree on every block: one computes
        return []
    check = check if jax.process_count() == 1 else never_stops
    models = {}
    for entry in members:
        if entry["member"] not in runs or entry["diverged_at"] is not None:
            continue
        if len(members) > 1:
            say(f"estimates of {ranking.named(entry)}")
        run = runs[entry["member"]]()
        # Members of one shape share one model, and with it what is compiled: their parameters and
        # hypers are arguments.
        shape = model_settings(run), repr(run.latent_dim)
        run.model = models.setdefault(shape, run.model)
        who = f" of {ranking.named(entry)}" if len(members) > 1 else ""
        found = estimators.estimate(run, dataset, check, lambda name, who=who: attempt(name + who))
        known = run.catalogue.parts["estimator"]
        kept = _kept(entries.get(_about(entry), {}), found, known)
        entries[_about(entry)] = {key: entry[key] for key in ABOUT} | kept | found
        for warning in words.warnings(found, known):
            logging.warning("%s", warning)
    return sorted(entries.values(), key=lambda entry: entry["member"])


def _about(entry: dict) -> tuple:
    return tuple(entry.get(key) for key in ABOUT)


def _kept(older: dict, found: dict, known: dict[str, Estimator]) -> dict:
    """What stays of an older entry: numbers of the same examples, unless what they were made from
    has changed."""
    if any(older.get(key) != found[key] for key in ("seed", "examples")):
        return {}
    outdated = {name for name in known if name in found and found[name] != older.get(name)}
    for _ in known:  # an outdated estimate may be what others were made from
        made_from = {name: (*known[name].after, *known[name].beside) for name in known}
        outdated |= {name for name in known if outdated.intersection(made_from[name])}
    return {name: value for name, value in older.items() if name not in outdated}


def draw_estimates(
    workdir: Path,
    folder: Path,
    evaluation: list[dict],
    members: list[dict],
    best: int,
    title: str,
    known: dict[str, Estimator],
    attempt: Attempt,
) -> None:
    """Draws the best member's pictures into `folder`, those that compare members into `workdir`.

    Pictures of estimates that are not there any more are removed.
    """
    entries = {entry["member"]: entry for entry in members}
    of_best = next((entry for entry in evaluation if entry["member"] == best), {})
    about = f"{title}, {ranking.named(entries[best])}" if len(members) > 1 else title
    _draw_member(folder, of_best, entries[best], about, known, attempt)
    if len(members) > 1:
        named = [(ranking.named(entries[entry["member"]]), entry) for entry in evaluation]
        _draw_members(workdir, named, title, known, attempt)


def _draw_member(
    folder: Path,
    entry: dict,
    member: dict,
    title: str,
    known: dict[str, Estimator],
    attempt: Attempt,
) -> None:
    found = words.with_numbers(entry, known)
    with attempt(bounds_plot.FILE):
        rows = []
        for name, numbers in found.items():
            rows_of = known[name].rows
            rows += rows_of(numbers) if rows_of else []
        _draw_or_remove(folder / bounds_plot.FILE, bounds_plot.draw, rows, title)
    for name, estimator in known.items():
        for picture in estimator.pictures:
            if not picture.of_members:
                numbers = found.get(name)
                with attempt(picture.file):
                    _draw_or_remove(folder / picture.file, picture.draw, numbers, member, title)


def _draw_members(
    folder: Path,
    named: list[tuple[str, dict]],
    title: str,
    known: dict[str, Estimator],
    attempt: Attempt,
) -> None:
    """Draws the pictures that compare members, [(name of the member, entry)]."""
    found = [(who, words.with_numbers(entry, known)) for who, entry in named]
    for name, estimator in known.items():
        numbers = [(who, of_one[name]) for who, of_one in found if name in of_one]
        for picture in estimator.pictures:
            if picture.of_members:
                compared = numbers if len(found) > 1 else []
                with attempt(picture.file):
                    _draw_or_remove(folder / picture.file, picture.draw, compared, title)


def _draw_or_remove(path: Path, draw: Callable[..., None], numbers, *args) -> None:
    if numbers:
        with files.replacement(path) as temporary:
            draw(temporary, numbers, *args)
    else:
        path.unlink(missing_ok=True)


def print_estimates(
    evaluation: list[dict], members: list[dict], known: dict[str, Estimator]
) -> None:
    """Prints the numbers of each member, a line for each estimate."""
    entries = {entry["member"]: entry for entry in members}
    for entry in evaluation:
        who = "" if len(members) == 1 else f"{ranking.named(entries[entry['member']])}, "
        for name, numbers, _ in words.rows(entry, known):
            say(f"{who}{name}: {numbers}")


def raise_violations(evaluation: list[dict], known: dict[str, Estimator]) -> None:
    """Checks that no numbers contradict each other.

    Raises:
      UserError: some do; they are written, but not to be used.
    """
    for entry in evaluation:
        for name, numbers in words.with_numbers(entry, known).items():
            violation = known[name].violation
            wrong = violation(numbers) if violation else None
            if wrong:
                raise UserError(
                    f"member {entry['member']}: {wrong}; do not trust these numbers, which are in "
                    "results.json"
                )
