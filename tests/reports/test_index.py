"""The index: one conclusion and its worth, what changed, a picture of the pipeline; search and tools of every page; the PDF."""

import re
import subprocess
from pathlib import Path
from typing import Any

import browser
import pytest
from site_files import fail, record, write

from ninefold.errors import NinefoldError
from ninefold.reports import pdf, site
from ninefold.stages import label

GAIN = {"value": 0.5, "low": -0.25, "high": 1.25}


def rendered() -> str:
    return site.render().read_text(encoding="utf-8")


def banner(index: str) -> tuple[str, str]:
    """Return the kind and the word of the index's conclusion."""
    found = re.search(r'class="banner decision (\w*)".*?<h2[^>]*>(.*?)</h2>', index, re.DOTALL)
    return (found[1], found[2]) if found else ("", "")


@pytest.fixture
def monitored(packed: Path) -> Path:
    """The project with a gain on 2,000 holdout rows, and two periods in production, after which the decision is to repair."""
    places = {slug: packed / f"reports/metrics/{label(slug)}.json" for slug in ("training", "monitoring")}
    write(places["training"], record("training") | {"metrics": {"holdout": {"gain": GAIN}}})
    write(places["monitoring"], record("monitoring") | {"metrics": {"decision": "repair"}})
    parts = {"holdout": {"rows": 2000, "first": "2025-01-01", "last": "2025-01-31"}}
    write(packed / "models/bundle/bundle.json", {"periods": parts})
    write(
        packed / "data/monitoring/decision.json", {"reasons": ["`x` is missing."], "works": "Always wait until then."}
    )
    period = {"period": "2025-02-03", "end": "2025-02-10", "at close": 100, "decision": "keep"}
    figures = {"figures": {"gain": GAIN, "payoff": {"value": -1.0}}}
    last = period | {"period": "2025-02-10", "decision": "repair"}
    write(packed / "data/monitoring/periods.json", [period | figures, last | figures])
    return packed


def test_the_index_draws_one_conclusion_and_says_where_stages_disagree(monitored: Path) -> None:
    index = rendered()
    assert banner(index) == ("amber", "Repair the data or the service")
    assert [
        text for text in ("x is missing. Always wait until then.", "The stages disagree.") if text not in index
    ] == []
    for decision, kind, word in (("keep", "passed", "Deploy"), ("stop acting", "failed", "Stop acting on the model")):
        write(monitored / "reports/metrics/09_monitoring.json", record("m") | {"metrics": {"decision": decision}})
        assert banner(rendered()) == (kind, word)
    fail("training", "GateFailed", "1 of 2 checks failed")
    assert banner(rendered()) == ("", "")


def test_the_index_says_what_the_model_is_worth_per_row_in_all_and_by_period(monitored: Path) -> None:
    index = rendered()
    told = ["0.500 <small>(-0.250 to 1.25)</small>", "1,000 <small>(-500 to 2,500)</small>", "in all, on 2,000 rows"]
    told += ["confidence interval, which includes zero", "<title>2025-02-10: 0.500 (-0.250 to 1.25); repair</title>"]
    assert [text for text in told if text not in index] == []
    assert index.count("<circle") == 2


def test_what_changed_is_the_same_before_and_after_the_commit(packed: Path) -> None:
    def git(command: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *command.split()], check=True, cwd=packed)

    git("init --quiet")
    assert "What changed" not in rendered()
    git("add params.yaml reports/metrics")
    git("-c commit.gpgsign=false commit --quiet --message before")
    (packed / "params.yaml").write_text("training: {trees: [1, 2]}\n")
    write(
        packed / "reports/metrics/07_training.json", record("training") | {"headline": {"figure of training": "0.83"}}
    )
    index = rendered()
    for row in ("07 Training: figure of training</td><td>0.71</td><td>0.83", "training.trees</td><td>–</td><td>1, 2"):
        assert row in index
    (packed / "params.yaml").write_text(f"training: {dict.fromkeys(map(str, range(12)), 1)}\n")
    assert "<summary>2 more params</summary>" in (index := rendered())
    git("-c commit.gpgsign=false commit --quiet --all --message after")
    assert rendered() == index


def test_the_pipeline_is_a_picture_of_what_stages_read_of_each_other(packed: Path) -> None:
    stages = {"problem": {"outs": [{"data/problem.json": {"persist": True}}]}, "collection": {"outs": ["data/raw"]}}
    stages |= {"processing": {"deps": ["data/raw/a", "data/problem.json", "data/rawest"]}}
    write(packed / "dvc.yaml", {"stages": stages})
    edges = re.findall(r'class="edge".*?<title>(.*?)</title>', rendered())
    assert edges == ["Problem to Processing: data/problem.json", "Collection to Processing: data/raw/a"]


def test_figures_and_tables_have_numbers_that_link(packed: Path) -> None:
    site.render()
    page = (packed / "reports/07_training.html").read_text(encoding="utf-8")
    names = re.findall(r'<a class="ref" id="(\w+-\d)" href="#\1">(\w+ 7\.\d)</a>', page)
    assert names == [
        ("table-1", "Table 7.1"),
        ("table-2", "Table 7.2"),
        ("figure-1", "Figure 7.1"),
        ("figure-2", "Figure 7.2"),
    ]


def test_code_links_to_the_source_of_what_it_calls(packed: Path) -> None:
    (packed / "src/project").mkdir(parents=True)
    (packed / "src/project/training.py").write_text(
        "def inputs(section):\n    return section < 1\n\n\ndef unused(): ...\n"
    )
    site.render()
    page = (packed / "reports/07_training.html").read_text(encoding="utf-8")
    told = [
        '<a href="#source-inputs">',
        "inputs, project/training.py",
        "def inputs(section):\n    return section &lt; 1</pre>",
    ]
    assert [text for text in told if text not in page] == []
    assert 'id="source-unused"' not in page


def test_pages_search_sort_enlarge_follow_and_change_their_theme(packed: Path, tmp_path_factory: Any) -> None:
    site.render()
    with browser.chromium(tmp_path_factory.mktemp("profile")) as chrome:
        browser.screen(chrome, 1280)
        chrome.get((packed / "reports/07_training.html").as_uri())
        browser.press(chrome, "/", "weaker", browser.Keys.ENTER)
        assert "1 section with" in browser.until(chrome, 'document.querySelector("#results li") && results.innerText')
        chrome.execute_script('document.querySelector("#results a").click()')
        browser.until(chrome, 'location.href.endsWith("model_card.html#where-it-is-weaker")')
        chrome.get((packed / "reports/07_training.html").as_uri() + "#the-gate")
        chrome.execute_script("scrollTo(0, document.body.scrollHeight)")
        assert browser.until(chrome, 'document.querySelector(".toc [aria-current]")?.textContent') == "The gate"
        first = 'document.querySelector("#table-2").closest("table")'
        for order in (["9", "10", "–"], ["10", "9", "–"]):
            chrome.execute_script(f'{first}.querySelector(".sort").click()')
            assert (
                chrome.execute_script(f"return [...{first}.tBodies[0].rows].map((row) => row.cells[0].innerText)")
                == order
            )
        chrome.execute_script('document.querySelector("figcaption .tool").click()')
        assert chrome.execute_script('return document.querySelector("dialog[open] img").alt') == "A dot."
        browser.press(chrome, browser.Keys.ESCAPE)
        for scheme in ("light", "dark"):
            chrome.execute_script('document.querySelector(".tools .tool").click()')
            for name in ("07_training", "index", "model_card"):
                chrome.get((packed / f"reports/{name}.html").as_uri())
                assert chrome.execute_script("return getComputedStyle(document.documentElement).colorScheme") == scheme
                ratio, text = chrome.execute_script(browser.CONTRAST)
                assert ratio >= 4.5, (scheme, name, text)
        assert chrome.get_log("browser") == []


def test_the_pages_print_as_one_pdf_where_there_is_a_browser(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.render()
    if not pdf.shutil.which("chromium"):
        pytest.skip("chromium is not installed")
    assert pdf.write().read_bytes().startswith(b"%PDF")
    monkeypatch.setenv("PATH", str(packed))
    with pytest.raises(NinefoldError, match=r"found no chromium, .* on the PATH"):
        pdf.write()
