"""The review page: the rows that matter first, why, and one record by form; safe to open, and for everybody's hands and eyes."""

import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browser import CONTRAST, chromium, press, requests, screen, served, tab_to, until
from bundles import CASES, lay_out, logged_rows, pack, write
from conftest import Project
from fastapi.testclient import TestClient
from httpx import Response
from selenium.webdriver.common.keys import Keys

from ninefold import artifacts
from ninefold.errors import DataError
from ninefold.problem import decisions
from ninefold.serving import app as service
from ninefold.serving import review
from ninefold.serving.bundle import Bundle
from ninefold.serving.fields import look_up
from ninefold.serving.log import Log

HERE = {"Origin": "http://testserver"}
HOSTILE = "<script>alert(1)</script>"
NAMES = ("title", "question", "action_meaning", "positive", "units", "payoff_unit")
FEATURES = "data/features/period=all/part-0.parquet"
NAMELESS = """
return [...document.querySelectorAll("input:not([type=hidden]), select, textarea")]
  .filter((each) => !each.labels?.length && !each.ariaLabel).map((each) => each.id);
"""


def client_of(bundle: Bundle, rows: Path | None = None, log: Log | None = None) -> TestClient:
    return TestClient(service.create_app(bundle, log, rows=rows))


def shown(page: Response) -> list[int]:
    """Return the numbers of the rows of a page, in the order in which they stand there."""
    assert page.status_code == 200, page.text
    return [int(number) for number in re.findall(r'id="row-(\d+)"', page.text)]


def filled(bundle: Bundle, **changes: str) -> dict[str, str]:
    """Return the form as a browser would send it: the example, with other text in some fields."""
    groups = review.form(bundle, bundle.described["example"])["groups"]
    return {each["id"]: changes.get(each["name"], each["text"]) for group in groups.values() for each in group}


def send(client: TestClient, form: dict[str, str], **headers: str) -> Response:
    return client.post("/review/record", data=form, headers=headers or HERE)


def headers_of_rows(page: Response) -> list[str]:
    """Return what identifies the rows of a page."""
    return [unescape(each) for each in re.findall(r'<th scope="row"[^>]*>(.*?)</th>', page.text)]


@pytest.fixture
def rows(parts: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The rows of the holdout, without their outcome."""
    return parts["holdout"].drop(columns="returned")


@pytest.fixture
def client(bundle: Bundle, rows: pd.DataFrame) -> TestClient:
    return client_of(bundle, write(rows))


@pytest.mark.parametrize("always", ["act", "wait"])
def test_rows_stand_in_the_order_of_what_acting_on_them_gains(bundle: Bundle, rows: pd.DataFrame, always: str) -> None:
    other = {"act": "wait", "wait": "act"}[always]
    policies = [{"policy": f"always {name}", "payoff": float(name == always)} for name in (always, other)]
    bundle.described["evidence"] = {"policies": policies}
    page = client_of(bundle, write(rows)).get("/")
    values = decisions.expected_payoff(bundle.predict(rows), bundle.problem)
    gain = values[other] - values[always]
    assert gain[shown(page)].is_monotonic_decreasing
    assert len(shown(page)) == len(rows)
    assert f"“{other}” pays more than “{always}” for {(gain > 0).sum()} of {len(rows)} orders" in page.text
    for text in (bundle.version, "2020-02-20 00:00:00 UTC", ">ready</a>"):  # in the header
        assert text in page.text
    assert f"{decisions.number(gain.clip(lower=0).sum())} more in all, in euro" in page.text
    for number, answer in bundle.decide(rows).iterrows():
        row = page.text.partition(f'id="row-{number}"')[2].partition("</tbody>")[0]
        texts = (f"{answer['probability']:.1%}", f">{answer['action']}</span>", f"{answer['expected_payoff']:.2f}")
        assert all(text in row for text in texts)


def test_filters_choose_rows_by_action_feature_and_key(bundle: Bundle, client: TestClient, rows: pd.DataFrame) -> None:
    waits, ann = bundle.decide(rows)["action"] == "wait", rows["customer"] == "ann"
    queries = {"action=wait": waits, "in.customer=ann": ann, "action=wait&in.customer=ann": waits & ann}
    for query, chosen in queries.items():
        page = client.get(f"/?{query}")
        assert set(shown(page)) == set(rows.index[chosen])
        assert f"{chosen.sum()} orders chosen from {len(rows)}" in page.text
    assert '<option value="ann" selected>' in page.text
    assert {3} <= set(shown(client.get(f"/?key={rows['id'].iloc[3]}"))) < set(rows.index)
    none = client.get("/?key=nothing+like+that")
    assert (shown(none), "No row is like that" in none.text) == ([], True)
    many = client_of(bundle, write(pd.concat([rows] * 7))).get("/")  # no more than one can read
    assert (len(shown(many)), f"The first 500 of {7 * len(rows)} orders" in many.text) == (500, True)


def test_what_comes_from_data_or_from_the_address_is_never_markup(bundle: Bundle, rows: pd.DataFrame) -> None:
    rows = rows.head(6).astype({"id": "str"})
    rows.loc[rows.index[:2], ["id", "customer"]] = [HOSTILE, "$x$"]
    texts = {name: getattr(bundle.problem, name) + HOSTILE for name in NAMES}
    vars(bundle)["problem"] = bundle.problem.changed(**texts)
    client = client_of(bundle, write(rows, "today.csv"))
    address = {"key": f'"{HOSTILE}', "action": f'">{HOSTILE}', f"in.{HOSTILE}": HOSTILE}
    pages = [client.get("/"), client.get("/", params=address), client.get("/review/why?row=0")]
    pages += [send(client, filled(bundle, amount=f'">{HOSTILE}', customer=f"'{HOSTILE}", id=HOSTILE))]
    for page in pages:
        assert "<script>" not in page.text
        assert unescape(page.text).count(HOSTILE) > 2
    assert '<option value="$x$">$x$</option>' in pages[0].text
    assert HOSTILE in headers_of_rows(pages[0])


@pytest.mark.parametrize("address", ["/", "/review/why?row=0", "/review/record"])
def test_a_page_loads_and_runs_nothing_but_its_own_script(client: TestClient, address: str) -> None:
    first, second = client.get(address), client.get(address)
    policy = first.headers["Content-Security-Policy"]
    wanted = {"default-src 'none'", "form-action 'self'", "img-src data:", "base-uri 'none'", "frame-ancestors 'none'"}
    assert wanted <= set(policy.split("; "))
    (nonce,) = re.findall(r"script-src 'nonce-([^']{16,})'", policy)
    assert re.findall(r"<script[^>]*>", first.text) == [f'<script nonce="{nonce}">']
    assert policy != second.headers["Content-Security-Policy"]
    assert not re.search(r"\son[a-z]+=", re.sub(r"<script.*?</script>", "", first.text, flags=re.DOTALL))
    assert not re.search(r"(?:href|src|action)=[\"'](?:https?:)?//", first.text)


def test_why_names_the_largest_contributions(bundle: Bundle, client: TestClient, rows: pd.DataFrame) -> None:
    page = client.get("/review/why?row=2").text
    assert page.count('<span class="feature">') == review.TOP
    for text in ("no causes", f"{bundle.predict(rows)['probability'][2]:.1%}", "The mean over"):
        assert text in page
    wrong = {"-1": 404, "100000": 404, "x": 422, "": 422}
    assert {row: client.get(f"/review/why?row={row}").status_code for row in wrong} == wrong


@pytest.mark.parametrize("case", CASES)
def test_the_form_answers_as_predict_does_whatever_the_task(project: Project, case: str) -> None:
    parts = lay_out(case)
    bundle, rows = pack(parts), parts["holdout"]
    client = client_of(bundle, write(rows.drop(columns=list(bundle.added.values()), errors="ignore")))
    page = send(client, filled(bundle))
    assert page.status_code == 200
    (answer,) = client.post("/predict", json={"rows": [bundle.described["example"]]}).json()["predictions"]
    action = answer["action"] if isinstance(answer["action"], str) else decisions.number(answer["action"])
    result = unescape(page.text.partition('class="result"')[2].partition("</section>")[0])
    assert f'<p class="statement">{action}</p>' in result
    assert f"<dd>{decisions.number(answer['expected_payoff'])}</dd>" in result
    assert "no causes" in result
    assert len(shown(client.get("/"))) == len(rows)
    assert len(client.get("/review/why?row=1").text.partition('class="bars"')[2]) > 100


def test_wrong_values_are_told_beside_their_fields_in_the_words_of_predict(bundle: Bundle, client: TestClient) -> None:
    page = send(client, filled(bundle, amount="1,5", items="nan", customer=""))
    assert page.status_code == 422
    body = json.dumps({"rows": [{"amount": "1,5", "items": float("nan")}]})
    answer = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    problems = answer.json()["problems"]
    assert len(problems) == 3
    for problem in problems:
        (field,) = re.findall(rf'<label for="(field_\d+)">{problem["field"]}\b', page.text)
        beside = page.text.partition(f'id="{field}_wrong">')[2].partition("</span>")[0]
        assert problem["message"].endswith(f"': {unescape(beside)}")
        assert f'aria-describedby="{field}_help {field}_wrong" aria-invalid="true"' in page.text
    assert page.text.count(" autofocus") == 1  # the first of them
    assert 'value="1,5"' in page.text
    assert "customer: “zed” was not seen in training" in send(client, filled(bundle, customer="zed")).text
    outside = "amount: “99999.0” is outside the contract (min 0, max 1000)."
    assert outside in send(client, filled(bundle, amount="99999")).text


def test_an_empty_form_is_refused_in_the_words_of_predict(project: Project) -> None:
    page = send(TestClient(service.create_app(pack(lay_out("text")))), {})
    assert page.status_code == 422
    assert "Not answered: found an empty object, expected at least one of comment" in page.text


def test_a_form_is_taken_from_this_service_s_own_page_alone(bundle: Bundle, client: TestClient) -> None:
    own = [HERE, {"Sec-Fetch-Site": "same-origin", "Origin": "http://proxied"}]
    others = [{"Origin": "http://testserver.evil"}, {"Origin": "null"}, {"X-Nothing": ""}]
    others += [{**HERE, "Sec-Fetch-Site": site} for site in ("same-site", "cross-site")]
    statuses = [send(client, filled(bundle), **headers).status_code for headers in (*own, *others)]
    assert statuses == [200] * 2 + [403] * 5
    for body in (b"", b"\xff\x00", b"field_0=%ff&field_3=%00", b"a=1&" * 1000):
        assert client.post("/review/record", content=body, headers=HERE).status_code in (400, 422)


def test_without_rows_there_is_the_form_and_how_to_give_rows(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")  # in no project
    client = client_of(bundle)
    page = client.get("/").text
    assert "<table" not in page
    for text in ("ninefold serve --review rows.csv", '<form method="post" action="/review/record"', "none yet"):
        assert text in page
    assert "That of the example record" in send(client, filled(bundle)).text
    assert client.get("/review/why?row=0").status_code == 404


def test_in_a_project_the_rows_are_those_of_its_newest_day(bundle: Bundle) -> None:
    rows = artifacts.read_table("data/features")
    newest = rows[rows["placed"].dt.normalize() == rows["placed"].max().normalize()]
    page = client_of(bundle).get("/")
    assert sorted(headers_of_rows(page)) == sorted(newest["id"].astype(str))
    assert f"{newest['placed'].max():%Y-%m-%d}, the newest day of data/features" in page.text
    artifacts.write_table(rows.drop(columns="amount"), artifacts.path(FEATURES))
    assert "lacks amount, which the model needs" in client_of(bundle).get("/").text


def test_without_time_the_rows_are_those_without_an_outcome(project: Project) -> None:
    client = client_of(pack(lay_out("text")))
    assert "400 orders" in client.get("/").text
    rows = artifacts.read_table("data/features").astype({"returned": "float64"})
    rows.loc[[5, 7], "returned"] = np.nan
    artifacts.write_table(rows, artifacts.path(FEATURES))
    assert sorted(headers_of_rows(client.get("/"))) == ["5", "7"]


def test_a_file_that_cannot_be_scored_is_refused_at_once(bundle: Bundle, rows: pd.DataFrame) -> None:
    for table, name in ((rows.drop(columns="amount"), "bad.csv"), (rows.head(0), "bad.parquet")):
        with pytest.raises(DataError, match=f"{name}: "):
            client_of(bundle, write(table, name))
    with pytest.raises(DataError, match=r"nowhere\.csv"):
        client_of(bundle, Path("nowhere.csv"))


def test_a_file_that_changes_is_scored_again(client: TestClient, rows: pd.DataFrame) -> None:
    assert len(shown(client.get("/"))) == len(rows)
    write(rows.tail(3))
    assert len(shown(client.get("/"))) == 3


@pytest.fixture
def address(bundle: Bundle, rows: pd.DataFrame) -> Iterator[str]:
    """The review page as it is served, on this machine alone, with a name that no screen is wide enough for."""
    rows = rows.astype({"id": "str"})
    rows.loc[rows.index[1], ["id", "channel"]] = "x" * 300
    app = service.create_app(bundle, rows=write(rows, "wide.parquet"))
    with served(app) as url:
        yield url


@pytest.fixture
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def test_the_review_is_used_by_keyboard_in_a_real_browser_and_asks_nobody_else(chrome: Any, address: str) -> None:
    screen(chrome, 1280)
    chrome.get(f"{address}/")
    tab_to(chrome, ".because summary")
    press(chrome, Keys.ENTER)
    assert until(chrome, 'document.querySelectorAll(".because .bars li").length') == review.TOP
    chrome.get(f"{address}/")
    tab_to(chrome, "#in-1")
    press(chrome, "e")  # chooses eve, and shows those rows
    assert until(chrome, "location.search").count("in.customer=eve") == 1
    chrome.get(f"{address}/review/record")
    tab_to(chrome, "#field_0")
    press(chrome, "99.5", Keys.ENTER)  # to tab into a field selects what stands in it
    assert until(chrome, 'document.querySelector(".result .statement")?.textContent') in ("act", "wait")
    assert chrome.execute_script('return document.activeElement.matches(".result")')
    assert chrome.execute_script('return document.querySelector("#field_0").value') == "99.5"
    assert chrome.get_log("browser") == []
    urls = requests(chrome)
    assert len(urls) >= 5
    assert [url for url in urls if not url.startswith(f"{address}/")] == []
    tab_to(chrome, "#field_0")
    press(chrome, "many", Keys.ENTER)
    assert until(chrome, 'document.querySelector("#field_0_wrong")?.textContent').startswith('found "many"')
    assert chrome.execute_script("return document.activeElement.id") == "field_0"


def test_pages_fit_a_phone_and_can_be_read_by_day_and_night(chrome: Any, address: str) -> None:
    for width, scheme in ((390, "light"), (390, "dark"), (1280, "light")):
        screen(chrome, width, scheme)
        for page in ("/", "/?key=no+such", "/review/why?row=1", "/review/record"):
            chrome.get(f"{address}{page}")
            assert chrome.execute_script("return document.documentElement.scrollWidth") <= width, page
            contrast, where = chrome.execute_script(CONTRAST)
            assert contrast >= 4.5, f"{page} {scheme}: {where}"
            assert chrome.execute_script(NAMELESS) == [], page
    assert chrome.get_log("browser") == []


def test_what_the_review_answers_is_logged_once(bundle: Bundle, rows: pd.DataFrame, log: Log) -> None:
    client, later = (client_of(bundle, write(rows), log) for _ in range(2))  # as after a swap, and back
    for each in (client, client, later):
        each.get("/")
    logged = logged_rows(log.place)
    assert logged["id"].tolist() == [str(value) for value in rows["id"]]
    assert logged["action"].tolist() == bundle.decide(look_up(rows, bundle.online))["action"].tolist()
    assert send(client, filled(bundle, amount="12.5"), **HERE, **{"X-Request-ID": "mine"}).status_code == 200
    last = logged_rows(log.place).iloc[-1]
    assert (last["request_id"], last["amount"]) == ("mine", 12.5)
    log.close()
    assert send(client, filled(bundle)).status_code == 503
    assert len(logged_rows(log.place)) == len(rows) + 1
