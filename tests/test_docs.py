"""What the documentation shows works: commands parse, Python runs, links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest

import vae_jax
from vae_jax import main
from vae_jax.config import check, flatten
from vae_jax.data.sources import DATASETS
from vae_jax.parts import PARTS, catalogue

ROOT = Path(__file__).parents[1]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted(ROOT.glob("*.md"))}
PAGES |= {f"docs/{path.name}": path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
PAGES["experiments/README.md"] = (ROOT / "experiments/README.md").read_text()
README = PAGES["README.md"]
# Pages whose Python is one session, in this order; it trains what the README trains.
SESSION = ["README.md", "docs/evaluation.md", "docs/data.md", "docs/python.md"]
SHORTER = {
    # Three steps, in one call.
    "num_epochs = 20": "update(num_epochs=0.2, steps_per_call=3); config.eval.nll_samples = 5",
    "num_samples=5000": "num_samples=5",
    "iwae_samples = (100, 1000)": "iwae_samples = (5,)",
}


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], re.DOTALL)


SHORT = r"--mode=(encode|compare|report)|--help-config"


def arguments_of(parameter):
    return parameter.values[0].strip()


def commands():
    """Every command of the package, in blocks and in the text, up to a shell's `&&`."""
    found = []
    for page, text in PAGES.items():
        lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
        lines += re.findall(r"`([^`\n]*python3? -m vae_jax\.main[^`\n]*)`", text)
        for line in lines:
            if "-m vae_jax.main" in line:
                found.append(pytest.param(line.split("-m vae_jax.main")[1], id=f"{page}: {line}"))
    return found


@pytest.mark.quick
def test_the_two_commands_come_first_and_alone():
    first, second = (block.strip() for block in blocks("README.md", "bash")[:2])
    install = "python3 -m pip install -e"
    assert first == f"{install} . && python3 -m vae_jax.main --config=configs/mnist.py"
    assert second == f'{install} ".[test]" && python3 -m pytest'
    assert len(README.splitlines()) <= 150


@pytest.mark.quick
@pytest.mark.parametrize("arguments", commands())
def test_every_command_names_fields_that_exist(arguments, monkeypatch):
    monkeypatch.chdir(ROOT)
    values = main.parse(["vae_jax.main", *shlex.split(arguments)])
    assert values.config is not None or values["help-config"].value or values.workdir
    if values.config is not None:
        check(values.config, catalogue(), main.asked(values))


@pytest.mark.quick
def test_every_script_that_a_command_runs_is_there():
    for page in PAGES:
        for script in re.findall(r"python3? ((?:experiments|configs|tests)/\S+\.py)", PAGES[page]):
            assert (ROOT / script).is_file(), (page, script)


@pytest.mark.quick
def test_every_flag_of_a_script_that_a_command_gives_is_there():
    scripts = r"python3? ((?:experiments|tests)/\S+\.py)((?:[ \\\n]+[^\s`&]+)*)"
    pages = PAGES | {path.name: path.read_text() for path in (ROOT / "experiments").glob("*.py")}
    given = [found for text in pages.values() for found in re.findall(scripts, text)]
    assert len(given) > 10
    for script, arguments in given:
        for flag in re.findall(r"(?<=\s)--(\w+)", arguments):
            assert f'"--{flag}"' in (ROOT / script).read_text(), (script, flag)


@pytest.mark.quick
def test_every_named_field_exists():
    fields, sections = flatten(vae_jax.default()), "|".join(vae_jax.default())
    for page in PAGES.keys() - {"CHANGELOG.md"}:  # which names old fields, too
        for name in re.findall(rf"`((?:{sections})\.[a-z_]+)(?:=[^`]*)?`", PAGES[page]):
            assert name in fields, (page, name)


@pytest.mark.quick
def test_every_part_and_dataset_is_named():
    for kind, parts in PARTS.items():
        for name in parts:
            assert f"`{name}`" in README, (kind, name)
    for name in DATASETS:
        assert f"`{name}`" in PAGES["docs/data.md"], name


@pytest.mark.quick
def test_no_python_is_outside_of_the_session():
    assert set(SESSION) == {page for page in PAGES if blocks(page, "python")}


def test_the_python_runs(tmp_path, monkeypatch, undrawn):
    monkeypatch.chdir(tmp_path)
    scope = {}
    assert all(any(slow in PAGES[page] for page in SESSION) for slow in SHORTER)
    for page in SESSION:
        code = "\n".join(blocks(page, "python"))
        for slow, fast in SHORTER.items():
            code = code.replace(slow, fast)
        exec(compile(code, page, "exec"), scope)
        if page == "README.md":
            assert scope["run"].config.hypers.target == 12.0
            scope["run"] = vae_jax.load("runs/digits")
    assert "iwae" in scope["found"][0]
    assert scope["patients"].train.observed is not None
    assert scope["y"].shape == (64, 8, 8, 1) and scope["log_p"].shape == (64,)
    assert len(scope["codes"].mean) == 300
    assert [m["hypers"]["sparsity"] for m in scope["run"].results["members"]] == [0.0, 0.5]
    # The commands that take less than a minute run on what the session has made.
    short = [
        arguments for arguments in map(arguments_of, commands()) if re.search(SHORT, arguments)
    ]
    assert len(short) >= 3
    for arguments in short:
        assert main.run(["main", *shlex.split(arguments)]) == 0, arguments


@pytest.mark.quick
def test_every_link_leads_somewhere():
    for page, text in PAGES.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if target.startswith("http"):
                continue
            path, _, heading = target.partition("#")
            file = (ROOT / page).parent / path if path else ROOT / page
            assert file.exists(), (page, target)
            if heading and not re.fullmatch(r"L\d+", heading):
                assert heading in headings(file.read_text()), (page, target)


@pytest.mark.quick
def test_the_example_of_a_part_is_what_the_files_have():
    (example,) = blocks("CONTRIBUTING.md", "diff")
    files = re.split(r"^--- (.*)\n", example, flags=re.MULTILINE)[1:]
    assert "vae_jax/likelihoods/laplace.py" in files
    for file, lines in zip(files[::2], files[1::2], strict=True):
        shown = re.sub(r"^[+ ]", "", lines, flags=re.MULTILINE).strip().splitlines()
        there = (ROOT / file).read_text().splitlines()
        assert [line for line in shown if line not in there] == [], file


def headings(text):
    """The anchors that GitHub makes of headings."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.quick
def test_the_citation_has_the_version():
    assert f"version: {vae_jax.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def assert_measured(text, page):
    """Every number with decimals stands in a table that the text links to; how many there are."""
    tables = re.findall(r"\]\(([\w/.]*\w+/table\.md)\)", text)
    measured = "".join((ROOT / page).parent.joinpath(table).read_text() for table in tables)
    numbers = re.findall(r"\d[\d,]*\.\d+(?:e[+-]\d+)?", text.replace("0.5 is chance", ""))
    for number in numbers:
        assert re.search(rf"(?<![\d.,]){re.escape(number)}(?!\d)", measured), (number, text)
    return len(numbers)


@pytest.mark.quick
def test_every_number_of_the_story_is_in_its_table():
    chapters = re.split(r"^##+ ", PAGES["docs/story.md"], flags=re.MULTILINE)
    assert sum(assert_measured(chapter, "docs/story.md") for chapter in chapters) > 50
    index, of_library = PAGES["experiments/README.md"].split("## The library")
    rows = [line for line in index.splitlines() if "/table.md)" in line]
    rows += [line for line in of_library.splitlines() if "(gradient_estimators/table.md)" in line]
    assert len(rows) == 7
    assert sum(assert_measured(row, "experiments/README.md") for row in rows) > 10


LINE = re.compile(r"\[`([^`]+)`\]\((\S+?)#L\d+\)")


def renumbered(page):
    """The page with the number of the line that each of its links to a line of code shows."""

    def link(match):
        code, file = match.groups()
        lines = (ROOT / page).parent.joinpath(file).read_text().splitlines()
        found = [i for i, line in enumerate(lines, 1) if line.strip() == code]
        assert found, f"{page}: no line of {file} is {code}"
        return f"[`{code}`]({file}#L{found[0]})"

    return LINE.sub(link, (ROOT / page).read_text())


@pytest.mark.quick
def test_the_lines_beside_the_equations_are_there():
    """`python tests/test_docs.py` writes the numbers anew."""
    page = "docs/equations.md"
    assert len(LINE.findall(PAGES[page])) > 20
    assert PAGES[page] == renumbered(page)


if __name__ == "__main__":
    (ROOT / "docs/equations.md").write_text(renumbered("docs/equations.md"))
