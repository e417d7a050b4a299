"""What the service is sent and what it answers, as typed models that are made from a bundle's signature and task."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WrapValidator, create_model
from pydantic_core import PydanticKnownError

from ninefold.errors import DataError
from ninefold.params import LARGEST, closest
from ninefold.problem import decisions
from ninefold.serving.bundle import Bundle
from ninefold.serving.fields import DATE, days

SLICE = 200  # rows that are validated at once


def _date(value: Any) -> Any:
    try:
        days(value)
    except (TypeError, ValueError):  # no text, or none that is a date
        raise ValueError(DATE) from None
    return value


Text = Annotated[str, Field(min_length=0)]  # with a limit of the length half a surrogate pair is an error
DATE_SCHEMA: dict[str, Any] = {"format": "iso-8601", "description": DATE}  # `date-time` asks for a zone
TYPES: dict[str, Any] = {
    "number": Annotated[float, Field(ge=-LARGEST, le=LARGEST)],
    "string": Text,
    "date": Annotated[str, BeforeValidator(_date), Field(json_schema_extra=DATE_SCHEMA)],
    "any": Text | int | float,
}
ABOUT = {
    "history": "looked up if absent",
    "identity": "returned as it is",
    "key": "for looking up history",
    "text": "free text",
    "date": DATE,
}


class Prediction(BaseModel):
    """The answer to one row."""

    identity: dict[str, str | int | float | None] = Field(default={}, description="what the row was sent with")


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


PREDICTIONS: dict[str, Any] = {"binary": Event, "multiclass": Classes, "regression": Quantity}


class Warned(BaseModel):
    """A category that training rows did not have, which the model treats as unknown; or numbers outside the contract."""

    field: str
    value: str | float = Field(description="the category; of numbers outside the contract the first")
    rows: int
    first_row: int
    message: str


class Answer(BaseModel):
    """The answer to a request, a prediction per row in the same order."""

    request_id: str = Field(description="the caller's X-Request-ID, or one of ours; the prediction log has it")
    model: str
    version: str
    history_as_of: str | None = Field(description="UTC; for this time history that was looked up holds; null without")
    predictions: list[Any]
    warnings: list[Warned]


class Refusal(BaseModel):
    """Why a request was not answered; after 503 (busy, too late, or the prediction log is not writable) send it again."""

    error: str
    problems: list[dict[str, Any]] = []


class Tensor(BaseModel):
    """One column of the Open Inference Protocol."""

    name: Text
    # Shape and data are described here, and checked where an error can name the input (`tensor_rows`) or its row.
    shape: list[int] = Field(
        description="[n] or [n, 1], n the number of values, the same for every input",
        json_schema_extra={"items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": 2},
    )
    datatype: Literal["BOOL", "INT8", "INT16", "INT32", "INT64", "FP32", "FP64", "BYTES"]
    data: list[Any] = Field(
        description="a value per row, of the field's type in the model's metadata; null is missing",
        json_schema_extra={"items": {"type": ["number", "string", "boolean", "null"]}},
    )


class Wanted(BaseModel):
    """An output that is asked for."""

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
    may be absent or null, which means missing; absent history is looked up. A row without any of `Bundle.fields` is refused.
    """
    types: dict[str, Any] = {}
    for index, field in enumerate(bundle.signature):
        about = Field(alias=field["name"], description=ABOUT.get(field["kind"], field["kind"]))
        kind = TYPES[field["type"]] if field["required"] and not field.get("nullable") else TYPES[field["type"]] | None
        # Names of ours: a field of the data may be called like a method of pydantic's.
        types[f"field_{index}"] = (Annotated[kind, about], ... if field["required"] else None)
    telling = {f"field_{index}" for index, field in enumerate(bundle.signature) if field["name"] in bundle.fields}

    def tells(sent: Any, validate: Callable[[Any], BaseModel]) -> BaseModel:
        if telling.isdisjoint((row := validate(sent)).model_fields_set):
            raise ValueError(f"at least one of {', '.join(bundle.fields)}, from which it is predicted")
        return row

    has_key = any(field["required"] for field in bundle.signature)
    needs: Any = {} if has_key else {"anyOf": [{"required": [name]} for name in bundle.fields]}
    strict = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, json_schema_extra=needs)
    row: Any = Annotated[create_model("Row", __config__=strict, **types), WrapValidator(tells)]
    example = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"rows": [bundle.described["example"]]}]})
    most = bundle.described["limits"]["max_rows"]
    rows: Any = Annotated[list[row], Field(min_length=1, max_length=most), WrapValidator(partial(_in_slices, most))]
    return create_model("Rows", __config__=example, rows=(rows, ...))


def _in_slices(most: int, rows: Any, validate: Callable[[Any], list[Any]]) -> list[Any]:
    """Validate rows a few at a time, up to the first errors: many at once would stop all other threads for a second."""
    if not isinstance(rows, list) or len(rows) <= SLICE:
        return validate(rows)
    if len(rows) > most:
        raise PydanticKnownError("too_long", {"field_type": "List", "max_length": most, "actual_length": len(rows)})
    valid: list[Any] = []
    for start in range(0, len(rows), SLICE):
        try:
            valid += validate(rows[start : start + SLICE])
        except ValidationError as error:
            errors: list[Any] = error.errors(include_url=False)
            for each in errors:
                each["loc"] = (start + each["loc"][0], *each["loc"][1:])
            raise ValidationError.from_exception_data(error.title, errors) from None
    return valid


def predictions(records: list[dict[str, Any]], bundle: Bundle) -> list[dict[str, Any]]:
    """Return the records of `Bundle.answer` as the answer names them; probabilities of classes stand together, by class."""
    if bundle.problem.task != "multiclass":
        return [dict(record) for record in records]
    columns = dict(zip(decisions.forecast_columns(bundle.problem), bundle.problem.classes, strict=True))
    return [
        {"probabilities": {label: record.pop(name) for name, label in columns.items()}, **record}
        for record in map(dict, records)
    ]


def sent_rows(body: Any) -> list[dict[str, Any]]:
    """Return the rows of a valid request: of each the fields that were there, null included."""
    return [row.model_dump(by_alias=True, exclude_unset=True) for row in body.rows]


def tensor_rows(inputs: list[Tensor]) -> list[dict[str, Any]]:
    """Return columns as rows; `DataError` if names repeat, or shapes are not [n] or [n, 1] of the same n and fit the data."""
    names, expected = [tensor.name for tensor in inputs], len(inputs[0].data)
    if len(set(names)) < len(inputs):
        raise DataError("inputs: a name stands there twice; expected a column per field")
    for tensor in inputs:
        count = len(tensor.data)
        if tensor.shape not in ([count], [count, 1]):
            shapes = f"[{count}] or [{count}, 1], flat data"
            raise DataError(f"input {tensor.name!r}: shape {tensor.shape} for {count} values, expected {shapes}")
        if count != expected:
            values = f"{count} values, {inputs[0].name!r} has {expected}"
            raise DataError(f"input {tensor.name!r}: {values}; expected columns of one length")
    return [dict(zip(names, row, strict=True)) for row in zip(*(tensor.data for tensor in inputs), strict=True)]


def explain(errors: Sequence[Mapping[str, Any]], bundle: Bundle) -> list[dict[str, Any]]:
    """Return errors of pydantic as problems: ``row``, ``field`` (None if neither), and a ``message`` that names them."""
    fields, problems = [field["name"] for field in bundle.signature], []
    for error in errors:
        path = [] if error["type"] == "json_invalid" else list(error["loc"][error["loc"][:1] == ("body",) :])
        row = path[1] if path[:1] == ["rows"] and len(path) > 1 else None
        field = str(path[2]) if row is not None and len(path) > 2 else None
        where = f"row {row}" if row is not None else ".".join(map(str, path)) or "body"
        where += f", field {field!r}" if field is not None else ""
        problems.append({"row": row, "field": field, "message": f"{where}: {_message(error, field, fields)}"})
    return problems


def _message(error: Mapping[str, Any], field: str | None, fields: list[str]) -> str:
    context, value, expected = error.get("ctx", {}), error["input"], error["msg"]
    match error["type"]:
        case "json_invalid":
            return f"not JSON: {context.get('error', expected)}, at character {error['loc'][-1]}"
        case "missing":
            return "missing; it is needed to look up history" if field else "missing"
        case "extra_forbidden":
            known = fields if field else ["rows"]
            return f"unknown field{closest(str(error['loc'][-1]), known)}"
        case "too_short":
            return f"none, expected at least {context['min_length']}"
        case "too_long":
            advice = "send several requests, or use `ninefold predict`"
            return f"too many, expected at most {context['max_length']:,}; {advice}"
        case "less_than_equal" | "greater_than_equal":
            expected = f"a number from {-LARGEST:g} to {LARGEST:g}"
        case "string_unicode":
            expected = "whole characters; this holds half a surrogate pair"
        case "dict_type" | "model_type" | "model_attributes_type":
            expected = "an object" + (", sent with Content-Type: application/json" if isinstance(value, bytes) else "")
    expected = expected.removeprefix("Input should be ").removeprefix("Value error, ")
    names: dict[type, str] = {list: "a list", dict: "an object" if value else "an empty object", bytes: "text"}
    text = names.get(type(value)) or json.dumps(value)
    return f"found {text if len(text) < 60 else f'{text[:57]}...'}, expected {expected}"
