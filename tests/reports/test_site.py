"""The report site: complete, honest about failures, offline, the same bytes every time, and fit for small screens."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import browser
import pytest
from selenium.webdriver.common.keys import Keys
from site_files import CARD, executed, fail, record, show, write

from ninefold import lineage
from ninefold.reports import site
from ninefold.stages import STAGES, label

TAGS = re.compile(r"<(?:link|script|img|iframe|source|object|embed)\b[^>]*>")


def rendered() -> str:
    return site.render().read_text(encoding="utf-8")


def pages(project: Path) -> dict[str, str]:
    return {place.name: place.read_text(encoding="utf-8") for place in (project / "reports").glob("*.html")}


def test_the_index_tells_each_stage_s_question_conclusion_gate_and_figures(finished: Path) -> None:
    index, told = rendered(), ["<h1>Bread &amp; butter</h1>", "All 9 gates passed"]
    for slug in STAGES:
        told += [f"What of {slug}?", f"Conclusion of {slug}.", f"figure of {slug}"]
    assert [text for text in told if text not in index] == []
    assert index.count("passed, 2 of 2 checks") == len(STAGES)
    banner, words = index.partition("The nine stages</h2>")[0], (">Deploy</h2>", "training.", "of problem.")
    assert [text in banner for text in words] == [1, 1, 0]


def test_a_page_shows_its_conclusion_then_its_notebook_with_folded_code_and_where_one_is(finished: Path) -> None:
    assert site.render() == finished / "reports/index.html"
    found = pages(finished)
    assert set(found) == {"index.html", *(f"{label(slug)}.html" for slug in STAGES)}
    page = found["07_training.html"]
    assert page.index("Conclusion of training.") < page.index("An introduction.") < page.rindex("Weigh &amp; compare")
    assert "<title>07 Training · Bread &amp; butter</title>" in page
    assert page.count("<h1>") == 1
    assert not re.search(r"secret|hidden&quot;|<details[^>]*\bopen\b", page)
    assert "<summary>Imports</summary>" in page
    beside = [("prev", "06_features.html"), ("next", "08_deployment.html")]
    assert re.findall(r'<a rel="(\w+)" href="([^"]+)"', page) == beside
    for name, text in found.items():
        assert re.findall(r'<a[^>]*href="([^"]+)"[^>]*aria-current="page"', text) == [name]
        assert text.count(", gate passed</span>") == len(STAGES)


def test_a_table_without_a_caption_has_the_sentence_that_announces_it_or_its_heading(finished: Path) -> None:
    run = executed("problem")
    run["cells"][6]["outputs"] = [show("<table><caption></caption></table>")]
    run["cells"].insert(7, {**run["cells"][6], "id": "again"})  # not directly below the sentence
    write(finished / "reports/notebooks/01_problem.ipynb", run)
    rendered()
    captions = re.findall(r"Table 1.[23]</a> (.*?)</span></caption>", pages(finished)["01_problem.html"])
    assert captions == ["See the first, and this", "What comes in"]


def test_a_failed_gate_shows_on_its_page_and_on_the_index(finished: Path) -> None:
    name = fail("features", "GateFailed", "1 of 2 checks failed", "No signal: not better than 'always wait'.")
    index = rendered()
    page = pages(finished)[f"{name}.html"]
    told = ("FAILED: the gate did not pass", "gain: found -0.5, expected &gt;= 0", ", gate failed</span>")
    assert [words for words in told for text in (page, index) if words not in text] == []
    assert index.count("Its page shows an earlier run.") == 3
    assert "From an earlier run" in pages(finished)["07_training.html"]
    assert "From an earlier run" not in pages(finished)["05_exploration.html"]
    banner, _, stages = index.partition("The nine stages</h2>")
    for said in ("Stopped at 06 Features: 5 of 9 gates passed", "The pipeline stopped here", "No signal: not better"):
        assert said in banner
    assert 'class="banner decision' not in banner
    for earlier in ("Conclusion of monitoring.", "Conclusion of deployment.", "Conclusion of exploration."):
        assert (earlier in banner, earlier in stages) == (False, True)
    (finished / f"reports/failed/{name}.ipynb").unlink()  # as when it is run by hand
    assert "gain: found -0.5" in rendered()
    assert "below is an earlier run" in pages(finished)[f"{name}.html"]


def test_a_cell_that_raised_shows_where_and_why_without_paths_of_this_machine(finished: Path) -> None:
    name = fail("features", "KeyError", f"{finished}/data <b>lost</b>")  # its record is of an older run
    index = rendered()
    page = pages(finished)[f"{name}.html"]
    for text in (page, index):
        assert "FAILED: the run stopped in “Weigh &amp; compare”" in text
        assert "data &lt;b&gt;lost&lt;/b&gt;" in text
        assert [hidden for hidden in ("found -0.5", str(finished), "\x1b") if hidden in text] == []
    assert "<summary>Traceback</summary>" in page
    assert "Code (did not run)" in page


@pytest.fixture
def shelf(finished: Path) -> Path:
    """The project with two notebooks of its user's own, of which one has run."""
    names = ["05b_by_region", "05c_季節"]
    write(finished / "notebooks/own.yaml", {"own": names})
    run = executed("problem")
    run["cells"][0]["source"] = "# 05b · By \\*region\\* & <i>\n\n*Where \\_is\\_ it?*\n\nAn introduction."
    run["cells"][5]["source"] = "## What comes in\n\nSee [one](05_exploration.ipynb), [two](./05c_季節.ipynb):"
    write(finished / f"reports/notebooks/{names[0]}.ipynb", run)
    write(finished / f"reports/metrics/{names[0]}.json", record("own"))
    return finished


def test_an_own_notebook_has_a_page_and_a_line_under_stage_05_until_it_is_no_more(shelf: Path) -> None:
    index = rendered()
    page = (shelf / "reports/own/05b_by_region.html").read_text(encoding="utf-8")
    told = ['<a href="own/05b_by_region.html">By *region* &amp; &lt;i&gt;</a>', "Where _is_ it?", "Conclusion of own."]
    assert [text for text in (*told, "10 of 11 gates passed, the others not run") if text not in index] == []
    found = [index.index(f'<span class="number">{number}</span>\n') for number in ("05", "05b", "05c", "06")]
    assert found == sorted(found)
    for text in ("<h1>By *region* &amp; &lt;i&gt;</h1>", "05b · a notebook of your own, under stage 5"):
        assert text in page
    assert page.count('class="name"') == len(STAGES)
    assert "05b" not in pages(shelf)["07_training.html"]
    assert '<a rel="next" href="own/05b_by_region.html">' in pages(shelf)["05_exploration.html"]
    write(shelf / "notebooks/own.yaml", {"own": []})
    assert "All 9 gates passed" in rendered()
    assert [place.name for place in (shelf / "reports/own").iterdir()] == ["README.txt"]


def test_every_link_leads_somewhere_and_no_page_loads_anything_from_elsewhere(packed: Path, shelf: Path) -> None:
    for name in ("reports/notebooks", "reports/metrics"):
        for place in (shelf / name).glob("05b*"):
            shutil.copy2(place, place.with_stem("05c_季節"))
    site.render()
    links, anchors = {}, {}
    for place in (shelf / "reports").rglob("*.html"):
        page = place.read_text(encoding="utf-8")
        links[place.name] = {unquote(link) for link in re.findall(r'<a[^>]*href="([^"]+)"', page)}
        anchors[place] = {f"#{name}" for name in re.findall(r'\bid="([^"]+)"', page)}
        assert [tag for tag in TAGS.findall(page) if re.search(r"""\b(?:src|href|data)=["'](?!data:)""", tag)] == []
        assert not re.search(r"@import|url\(\s*['\"]?(?!data:)", page)
        assert "default-src 'none'" in page
        pictures = re.findall(r"<img\b[^>]*>", page)
        assert all(re.search(r'\balt="[^"]+"', picture) for picture in pictures)
        assert len(pictures) == (0 if place.name in ("index.html", "model_card.html") else 2)
    for place in anchors:
        parts = [link.partition("#") for link in links[place.name]]
        targets = [((place.parent / name).resolve() if name else place, mark + anchor) for name, mark, anchor in parts]
        assert [target for target, _ in targets if not target.is_file()] == [], place
        assert [anchor for target, anchor in targets if anchor and anchor not in anchors[target]] == [], place
    own = {"../index.html", "../05_exploration.html", "../own/05c_季節.html", "../06_features.html"}
    assert own <= links["05b_by_region.html"]


def test_the_model_card_of_the_bundle_is_a_page_that_index_and_stage_08_link_to(packed: Path) -> None:
    site.render()
    found = pages(packed)
    page = found["model_card.html"]
    linking = [name for name, text in found.items() if 'href="model_card.html"' in text]
    assert sorted(linking) == ["08_deployment.html", "index.html"]
    assert re.findall(r'<h2 id="([^"]+)"', page) == ["intended-use", "where-it-is-weaker", "commit"]
    for text in ("<strong>How many?</strong> For <code>a|b</code>.", '<div class="nf-table"><table>'):
        assert text in page
    assert "¶" not in page
    assert re.findall(r'href="([^"]+)" aria-current="(\w+)"', page) == [("08_deployment.html", "true")]
    (packed / "models/bundle/bundle.json").write_text("{")  # damaged
    site.render()
    assert "<code>not in a git repository</code>" in pages(packed)["model_card.html"]
    (packed / "models/bundle/MODEL_CARD.md").unlink()
    site.render()
    assert not any("model_card" in text for text in [*pages(packed), *pages(packed).values()])


def test_the_page_of_the_model_card_names_the_commit_and_what_the_folder_holds(packed: Path) -> None:
    (packed / "src").mkdir()
    (packed / "dvc.lock").write_text(f"md5: {'0' * 32}.dir\n")
    for command in ("init", "add dvc.lock", "commit --message run", "rev-parse HEAD"):
        done = subprocess.run(["git", *command.split()], check=True, capture_output=True, text=True)
    site.render()
    page = pages(packed)["model_card.html"]
    told = [f"<code>{done.stdout.strip()}</code>", f"of bundle {lineage.of_folder('models/bundle/checksums.json')}"]
    told += [f"<td><code>params.yaml</code></td><td><code>{lineage.of_folder('params.yaml')}</code></td>"]
    assert [text for text in told if text not in page] == []


def test_stages_that_have_not_run_are_on_the_index_without_a_page(finished: Path) -> None:
    site.render()
    for slug in STAGES[1:]:
        (finished / f"reports/notebooks/{label(slug)}.ipynb").unlink()
    index = rendered()
    assert set(pages(finished)) == {"index.html", "01_problem.html"}
    assert index.count("Gate not run") == 8
    assert "1 of 9 gates passed" in index
    for folder in ("data", "reports"):
        shutil.rmtree(finished / folder)
    assert "0 of 9 gates passed" in rendered()


def test_equal_inputs_give_equal_bytes_in_any_folder(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    name = fail("monitoring", "KeyError", "at 0x7f00deadbeef")
    site.render()
    first = pages(packed)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "project"
    shutil.copytree(packed, elsewhere)
    os.chdir(elsewhere)
    failed = elsewhere / f"reports/failed/{name}.ipynb"
    failed.write_text(failed.read_text().replace(str(packed), str(elsewhere)).replace("deadbeef", "12345678"))
    site.render()
    assert pages(elsewhere) == first


def test_the_summary_names_gates_figures_own_notebooks_and_the_report(shelf: Path, capsys: Any) -> None:
    fail("deployment", "KeyError", "'lost'")
    (shelf / "reports/notebooks/09_monitoring.ipynb").unlink()
    site.summarize()
    assert "not rendered yet" in capsys.readouterr().out
    site.render()
    site.summarize()
    out = capsys.readouterr().out
    for words in ("07 training", "passed, 2 of 2 checks", "figure of training", "KeyError: 'lost'", "not reached",
                  "05b By *region* & <i>", "05c 季節"):  # fmt: skip
        assert words in out
    assert out.rstrip().endswith("reports/index.html")


@pytest.mark.parametrize("width", [390, 1280])
def test_pages_fit_the_screen_in_a_real_browser(packed: Path, tmp_path_factory: Any, width: int) -> None:
    fail("monitoring", "KeyError", "x" * 300)
    wide = f"| {' | '.join(f'a long name of column {number}' for number in range(20))} |\n|{' --- |' * 20}\n"
    (packed / "models/bundle/MODEL_CARD.md").write_text(f"{CARD}\n{wide}", encoding="utf-8")
    site.render()
    with browser.chromium(tmp_path_factory.mktemp("profile")) as chrome:
        browser.screen(chrome, width)
        for name in pages(packed):
            chrome.get((packed / "reports" / name).as_uri())
            if name not in ("index.html", "model_card.html"):
                chrome.execute_script('document.getElementById("all-code").click()')
                assert chrome.execute_script('return document.querySelectorAll("details.code:not([open])").length') == 0
            assert chrome.execute_script("return document.documentElement.scrollWidth") <= width, name
        assert chrome.get_log("browser") == []
        chrome.get((packed / "reports/07_training.html").as_uri())
        chrome.execute_script('document.querySelector("figure button[title]").focus()')
        browser.press(chrome, Keys.ARROW_RIGHT)
        assert chrome.find_element("class name", "tip").text == "x: 1 (0 to 2)\nb"


def test_experiments_of_the_clone_are_a_page_that_the_model_card_links_to(packed: Path, monkeypatch: Any) -> None:
    known = {"rev-parse": "790\n", "for-each-ref": "refs/exps/79/0/try-0\nrefs/exps/79/0/try-1"}
    monkeypatch.setattr(lineage, "git", lambda command, *options: known.get(command))

    def file_of(revision: str, name: str) -> str:
        scores = {"holdout": {"gain": {"value": 0.5 if revision == "790" else 0.25}, "payoff": {"value": 1.0}}}
        return json.dumps({"metrics": scores}) if name.endswith(".json") else f"training: {{C: {revision[-1]}, D: 3}}"

    monkeypatch.setattr(lineage, "file_of", file_of)
    site.render()
    shown = re.findall(r"<t[hd]\b[^>]*>([^<]*)</t[hd]>", pages(packed)["experiments.html"])
    assert [*shown[1:3], *shown[4::3], *shown[5::3]] == ["training.C", "gain", "0", "0", "1", "0.5", "0.25", "0.25"]
    assert 'href="experiments.html"' in pages(packed)["model_card.html"]
