"""The HTML pages of the service: one file each, escaped; a browser runs and loads nothing but the template's own script."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parents[1] / "templates"
HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "same-origin", "X-Content-Type-Options": "nosniff"}
SECURITY = (  # connect-src: the script fetches explanations from the service
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; img-src data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def render(template: str, shown: Mapping[str, Any], status: int = 200) -> HTMLResponse:
    """Return a rendered template; only its own script carries the nonce of the answer."""
    nonce = secrets.token_urlsafe(16)
    html = _templates().get_template(template).render({**shown, "nonce": nonce})
    return HTMLResponse(html, status, {**HEADERS, "Content-Security-Policy": SECURITY.format(nonce=nonce)})


@cache
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
