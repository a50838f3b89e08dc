"""The site: pages and links are staged as they stand, and what leads nowhere is found."""

from __future__ import annotations

import tomllib

import pytest

import resilient_infe
from benchmarks.site import CONFIG, ROOT, entries, faults, llms, moved, orphans, place, summary

PROJECT = tomllib.loads(CONFIG.read_text())["project"]
NAVIGATION = [path for _, _, path in entries(PROJECT["nav"])]


def test_a_link_out_of_docs_leads_to_the_copy():
    """Links between pages stay as they are; those to other folders lose the way out of docs."""
    text = "[a](../kinds.md#x) ![b](../../benchmarks/results/gym.svg)\n```\n[c](../../x.md)\n```\n"
    out, found = moved(text, ROOT / "docs/layers/rate.md")
    assert out == text.replace("../../benchmarks", "../benchmarks")
    assert found == [ROOT / "docs/kinds.md", ROOT / "benchmarks/results/gym.svg"]


def test_a_link_into_docs_leads_to_the_page():
    """A page outside of docs stands beside the pages of docs."""
    assert moved("[a](docs/kinds.md)", ROOT / "SECURITY.md")[0] == "[a](kinds.md)"
    with pytest.raises(SystemExit, match="leads out of the repository"):
        moved("[a](../elsewhere.md)", ROOT / "SECURITY.md")


def test_every_page_of_the_navigation_exists_once():
    """No page is named twice, each is a file, and no page of docs is left out."""
    assert len({*NAVIGATION}) == len(NAVIGATION)
    for path in NAVIGATION:
        assert (ROOT / "docs" / path).exists() or (ROOT / path).exists(), path
    assert list(orphans(ROOT / "docs", NAVIGATION)) == []


def test_the_reference_has_every_public_name():
    """Each public name has its directive on one of the pages of the reference."""
    pages = (ROOT / "docs/reference").glob("*.md")
    shown = {line for page in pages for line in page.read_text().splitlines()}
    inside = {"run_batch": "batch"}
    for name in resilient_infe.__all__:
        assert f"::: resilient_infe.{inside.get(name, name)}" in shown, name


QUESTIONS = [
    "two models, two limits", "two keys, one limit", "why does it wait", "how do I see 429s",
    "what happens on a 429", "what does partition mean", "how do I stop after 50 dollars",
    "how do I resume", "can I use it in a notebook", "with a synchronous client", "with LangChain",
    "how do I share a limit over replicas", "where is the log", "how do I turn one layer off",
    "my own retry rule", "a stream that hangs", "what is logged of my prompts",
    "does it work without Infe", "how fast is it", "what if Redis is down",
]  # fmt: skip
"""What newcomers ask."""


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_newcomers_question_has_an_answer(question):
    """Its words stand in the first column, and the row leads to a page."""
    rows = (ROOT / "docs/how-do-i.md").read_text().splitlines()
    [row] = [row for row in rows if question.lower() in row.partition(" | ")[0].lower()]
    assert "](" in row.rpartition(" | ")[2]


def test_llms_txt_lists_the_pages_with_their_first_sentences(tmp_path):
    """Each page stands under its section, with its title and its first sentence."""
    (tmp_path / "a.md").write_text("# A page\n\n| x |\n|---|\n\nTells [all](b.md). And more.\n")
    project = {
        "site_name": "name",
        "site_description": "What it is",
        "nav": [{"Part": ["a.md"]}],
    }
    assert llms(tmp_path, project) == (
        "# name\n\n> What it is.\n\n## Part\n\n- [A page](a.md): Tells all.\n"
    )
    assert not summary("# Only a title\n")


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ('<a href="other.html#here">', None),
        ('<a href="https://elsewhere.example/x">', None),
        ('<a href="gone.html">', "gone.html leads nowhere"),
        ('<a href="other.html#gone">', "other.html#gone leads to no heading"),
        ('<a href="#gone">', "#gone leads to no heading"),
        ('<script src="https://elsewhere.example/x.js">', "loads https://elsewhere.example/x.js"),
    ],
)
def test_what_leads_nowhere_is_found(tmp_path, page, fault):
    """Each kind of dead link is told, and what a page loads from elsewhere; others are not."""
    (tmp_path / "index.html").write_text(page)
    (tmp_path / "other.html").write_text('<h2 id="here">')
    found = list(faults(tmp_path))
    assert [each.endswith(fault) for each in found] == [True] if fault else not found


def test_a_page_outside_of_the_navigation_is_found(tmp_path):
    """Only the decisions and the figures may be reached by links alone."""
    for name in ("a.md", "b.md", "adr/1.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(orphans(tmp_path, ["a.md"])) == ["b.md is not in the navigation of zensical.toml"]


def test_a_page_of_docs_keeps_its_place():
    """The site's paths are those of docs; a file of another folder keeps its whole path."""
    assert place(ROOT / "docs/layers/rate.md").as_posix() == "layers/rate.md"
    assert place(ROOT / "benchmarks/results/gym.md").as_posix() == "benchmarks/results/gym.md"
