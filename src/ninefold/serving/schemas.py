"""What the service is sent and what it answers, as typed models that are made from a bundle's signature and task."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, create_model

from ninefold.problem import decisions
from ninefold.serving.bundle import Bundle
from ninefold.serving.fields import DATE, days

LARGEST = 1e30  # a pipeline may square a number; beyond this it could overflow
V2_TYPES = ("BOOL", "INT8", "INT16", "INT32", "INT64", "FP32", "FP64", "BYTES")


def _characters(text: str) -> str:
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("whole characters; this holds half a surrogate pair")
    return text


def _date(value: Any) -> Any:
    try:
        days(value)
    except (TypeError, ValueError):  # no text, or none that is a date
        raise ValueError(DATE) from None
    return value


Text = Annotated[str, AfterValidator(_characters)]
# Of a name of its own: `date-time` asks for a zone, and `date` allows no time.
Date = Annotated[
    str, BeforeValidator(_date), WithJsonSchema({"type": "string", "format": "iso-8601", "description": DATE})
]
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
TYPES: dict[str, Any] = {"number": Number, "string": Text, "date": Date, "any": Text | int | float}

# Described here, and checked where an error can name the input (`service.as_rows`) or its row.
SHAPE: dict[str, Any] = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0},
    "minItems": 1,
    "maxItems": 2,
    "description": "[n] or [n, 1], n the number of values, the same for every input",
}
DATA: dict[str, Any] = {
    "type": "array",
    "items": {"type": ["number", "string", "boolean", "null"]},
    "description": "a value per row, of the field's type in the model's metadata; null is missing",
}


class Prediction(BaseModel):
    """The answer to one row."""

    identity: dict[str, str | int | float | None] = Field(
        default_factory=dict, description="what the row was sent with"
    )


class Event(Prediction):
    """The answer to one row: how probable the event is, and what to do."""

    probability: float = Field(description="of the event, 0-1")
    action: str = Field(description="the one of the highest expected payoff")
    expected_payoff: float = Field(description="of that action")


class Classes(Prediction):
    """The answer to one row: how probable each class is, and what to do."""

    probabilities: dict[str, float] = Field(description="class -> its probability, 0-1; they sum to 1")
    action: str = Field(description="the one of the highest expected payoff")
    expected_payoff: float = Field(description="of that action")


class Quantity(Prediction):
    """The answer to one row: which quantity to expect, and which to act on."""

    prediction: float = Field(description="of the quantity")
    low: float = Field(description="lower end of the interval around the prediction")
    high: float = Field(description="upper end of the interval around the prediction")
    action: float = Field(description="the quantity to act on, of the least expected cost")
    expected_payoff: float = Field(description="of that action: its expected cost, negative")


PREDICTIONS: dict[str, type[Prediction]] = {"binary": Event, "multiclass": Classes, "regression": Quantity}


class Unseen(BaseModel):
    """A category that training rows did not have; the model treats it as unknown."""

    field: str
    value: str
    rows: int
    first_row: int
    message: str


class Answer(BaseModel):
    """The answer to a request, a prediction per row in the same order."""

    request_id: str = Field(description="the caller's X-Request-ID, or one of ours; the prediction log has it")
    model: str
    version: str
    history_as_of: str | None = Field(
        description="UTC; history that was looked up holds for this time; null without history"
    )
    predictions: list[Any]
    warnings: list[Unseen]


class Refusal(BaseModel):
    """Why a request was not answered."""

    error: str
    problems: list[dict[str, Any]] = []


class Tensor(BaseModel):
    """One column of the Open Inference Protocol."""

    name: Text
    shape: Annotated[list[int], WithJsonSchema(SHAPE)]
    datatype: Literal[V2_TYPES]  # type: ignore[valid-type]
    data: Annotated[list[Any], WithJsonSchema(DATA)]


class Wanted(BaseModel):
    """A figure that is asked for."""

    name: Text


class Inference(BaseModel):
    """A request of the Open Inference Protocol: a column per field."""

    id: Text | None = None
    inputs: Annotated[list[Tensor], Field(min_length=1)]
    outputs: list[Wanted] | None = None


class Column(BaseModel):
    """One column of an answer of the Open Inference Protocol."""

    name: str
    shape: list[int]
    datatype: str
    data: list[float] | list[str]


class InferenceAnswer(BaseModel):
    """An answer of the Open Inference Protocol: a column per figure."""

    model_name: str
    model_version: str
    id: str = Field(description="of the request: the caller's id, or one of ours")
    outputs: list[Column]


def request_model(bundle: Bundle) -> type[BaseModel]:
    """Return the typed model of a request, ``rows`` of the fields of the bundle's signature.

    Types are strict (no text for numbers), numbers finite, unknown fields refused. Lookup keys are required, all else
    may be absent or null, which means missing; absent history is looked up.
    """
    types: dict[str, Any] = {}
    for index, field in enumerate(bundle.signature):
        kind, about = TYPES[field["type"]], Field(alias=field["name"], description=_describe_field(field))
        open_kind = kind if field["required"] and not field.get("nullable") else kind | None
        # Names of ours: a field of the data may be called like a method of pydantic's.
        types[f"field_{index}"] = (Annotated[open_kind, about], ... if field["required"] else None)
    strict = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    row = create_model("Row", __config__=strict, **types)
    most = bundle.described["limits"]["max_rows"]
    example = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"rows": [bundle.described["example"]]}]})
    rows: Any = Annotated[list[row], Field(min_length=1, max_length=most)]
    return create_model("Rows", __config__=example, rows=(rows, ...))


def input_types(bundle: Bundle) -> dict[str, str]:
    """Return the datatype of every field in the Open Inference Protocol."""
    return {field["name"]: "FP64" if field["type"] == "number" else "BYTES" for field in bundle.signature}


def inference_example(bundle: Bundle) -> dict[str, Any]:
    """Return the bundle's example as a request of the Open Inference Protocol."""
    types, row = input_types(bundle), bundle.described["example"]
    inputs = [{"name": name, "shape": [1], "datatype": types[name], "data": [row[name]]} for name in row]
    return {"inputs": inputs}


def answer_model(bundle: Bundle) -> type[Answer]:
    """Return the typed model of an answer, whose predictions are those of the bundle's task."""
    kind: Any = PREDICTIONS[bundle.problem.task]
    return create_model("Predictions", __base__=Answer, predictions=(list[kind], ...))


def predicted(records: list[dict[str, Any]], bundle: Bundle) -> list[dict[str, Any]]:
    """Return the records of `Bundle.answer` as the answer names them; probabilities of classes stand together, by class."""
    if bundle.problem.task != "multiclass":
        return [dict(record) for record in records]
    columns = dict(zip(decisions.forecast_columns(bundle.problem), bundle.problem.classes, strict=True))
    rest = ("action", "expected_payoff")
    return [
        {
            "probabilities": {shown: record[name] for name, shown in columns.items()},
            **{name: record[name] for name in rest},
        }
        for record in records
    ]


def sent(body: BaseModel) -> list[dict[str, Any]]:
    """Return the rows of a valid request: of each the fields that were there, null included."""
    return [row.model_dump(by_alias=True, exclude_unset=True) for row in body.rows]  # type: ignore[attr-defined]


def _describe_field(field: dict[str, Any]) -> str:
    about = {
        "history": "looked up if absent",
        "identity": "returned as it is",
        "key": "for looking up history",
        "text": "free text",
        "date": DATE,
    }
    return about.get(field["kind"], field["kind"])
