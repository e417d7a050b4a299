from . import (
    app,
    batch,
    bundle,
    challenger,
    client,
    deployment,
    fields,
    hot_swap,
    log,
    log_export,
    model_card,
    sentences,
)
from .bundle import (
    BUNDLE,
    Bundle,
)
from .challenger import (
    differing,
)
from .fields import (
    FEATURE_KINDS,
    NO_NUMBER,
)
from .hot_swap import (
    PRODUCTION,
)
from .log import (
    BUSY,
    CANARY,
    CHAMPION,
    LOG,
    as_text,
    key,
    pseudonym,
)

__all__ = [
    "BUNDLE",
    "BUSY",
    "CANARY",
    "CHAMPION",
    "FEATURE_KINDS",
    "LOG",
    "NO_NUMBER",
    "PRODUCTION",
    "Bundle",
    "app",
    "as_text",
    "batch",
    "bundle",
    "challenger",
    "client",
    "deployment",
    "differing",
    "fields",
    "hot_swap",
    "key",
    "log",
    "log_export",
    "model_card",
    "pseudonym",
    "sentences",
]
