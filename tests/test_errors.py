"""No error that a user sees holds a secret, whichever library wrote the text in it."""

import pytest

from ninefold.errors import DataError, masked


@pytest.mark.parametrize(("text", "shown"), [
    ("remote https://ann:top@secret@host/x (403); check", "remote https://ann:***@host/x (403); check"),
    ("push to https://ghp_topsecrettopsecretto@host/x", "push to https://***@host/x"),
    ("401 for url: https://host/v1?api_key=topsecret&x=1", "401 for url: https://host/v1?api_key=***&x=1"),
    ("see https://host/x?sv=1&sig=top%2Fsecret.", "see https://host/x?sv=1&sig=***."),
    ("mssql:///?odbc_connect=PWD%3Dtop%26secret%3BX%3D1", "mssql:///?odbc_connect=PWD%3D***%3BX%3D1"),
    ("sent {'password': 'top secret', 'a': 1}", "sent {'password': '***', 'a': 1}"),
    ("Authorization: Bearer topsecret", "Authorization: Bearer ***"),
    ("(access_token=topsecret), fix it", "(access_token=***), fix it"),
    ("PASSWORD = topsecret", "PASSWORD = ***"),
    ("Authorization: Basic dG9wOnNlY3JldA==", "Authorization: Basic ***"),
    ("s3://key:topsecret@bucket/x: AccessDenied", "s3://key:***@bucket/x: AccessDenied"),
])  # fmt: skip
def test_a_secret_is_masked_wherever_it_stands_in_a_message(text: str, shown: str) -> None:
    assert masked(text) == masked(shown) == str(DataError(text)) == shown


@pytest.mark.parametrize("text", [
    "postgresql://u:${PW}@host/db?password=${PW}",
    "http://127.0.0.1:8000/a@b",
    "NINEFOLD_TOKEN: found no token, expected a bearer token",
    "https://medium.com/@ann",
])  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    assert str(DataError(text)) == text


def test_the_value_of_a_variable_that_holds_a_secret_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_DB_PASS", "top/secret")
    monkeypatch.setenv("OTHER_KEY", "data")
    assert str(DataError("top/secret, or top%2Fsecret, refused: data")) == "***, or ***, refused: data"
