"""Send JSON to a webhook, whose address may be a secret: it is told to nobody else."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from ninefold.core.params import Name, Sparse

PAUSE = 1.0  # seconds before the second try; twice as long before each further one
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})  # answers after which to try again at once


class Webhook(Sparse):
    """Where to POST messages: the URL in an environment variable, so that it is not in git, or else one that is no secret."""

    env: Name | None = None
    url: SecretStr | None = None
    timeout_s: float = Field(default=10, gt=0, le=60)
    tries: int = Field(default=3, ge=1, le=10)

    @model_validator(mode="after")
    def _somewhere(self) -> Webhook:
        if self.env is None and self.url is None:
            raise ValueError("the key env, the variable that holds the address, or url, the address itself")
        return self


def post(content: Any, webhook: Webhook) -> str:
    """POST JSON; try again, later and later, where that may help. Return why it could not be sent, or nothing.

    Neither what is returned nor the log tells more of the address than its host.
    """
    given = (webhook.env and os.environ.get(webhook.env)) or (webhook.url and webhook.url.get_secret_value())
    where = f"the webhook in {webhook.env}" if webhook.env else "the webhook"
    if not given:
        return f"{where} is not set; set it to the address, or take `webhook` out of params.yaml"
    try:
        host = urlsplit(given).hostname if given.startswith(("http://", "https://")) else None
    except ValueError:
        host = None
    if not host:
        return f"{where}: no address that begins with http:// or https://"
    failure = ""
    for number in range(webhook.tries):
        if number:
            time.sleep(PAUSE * 2 ** (number - 1))
        failure, again = _try(content, given, webhook.timeout_s)
        if not failure or not again:
            break
    return failure and f"{where}, at {host}, {failure}"


def _try(content: Any, url: str, timeout: float) -> tuple[str, bool]:
    """Return why one request failed, or nothing, and whether it is worth another try."""
    import httpx

    with _quiet():
        try:
            status = httpx.post(url, json=content, timeout=timeout).status_code
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return f"was not reached ({type(error).__name__})", isinstance(error, httpx.HTTPError | OSError)
    return ("", False) if 200 <= status < 300 else (f"answered {status}", status in AGAIN)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep httpx from logging addresses, which it does where a program logs all there is."""
    loggers = [logging.getLogger(name) for name in ("httpx", "httpcore")]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
