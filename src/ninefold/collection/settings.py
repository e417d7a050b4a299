"""Section ``collection`` of ``params.yaml``."""

from typing import Annotated, Any, Self

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from ninefold.collection import databases, datetimes
from ninefold.errors import ParamsError
from ninefold.params import Day, Name, Section, Sparse, StageSection, Text
from ninefold.sentences import render


class Options(Sparse):
    """How the default reader reads a source, where that is not the default; see `ninefold.collection.sources.read`."""

    delimiter: str | None = None
    encoding: Text | None = None
    quote: str | None = None
    escape: str | None = None
    header: bool | int | None = Field(default=None, ge=0, le=9)
    final_newline: bool | None = None
    skip: int | None = Field(default=None, ge=0)
    comment: str | None = None
    skip_below: int | None = Field(default=None, ge=0)
    footer: Annotated[int, Field(ge=1)] | Text | None = Field(default=None, union_mode="left_to_right")
    sheet: str | None = None
    table: str | None = None
    query: Text | None = None


class Source(Section):
    """One raw table: its text column with a timestamp (if it has one), its minimum of rows, where it is read from."""

    time: Name | None = None
    format: datetimes.Format | None = None
    min_rows: int = Field(default=1, ge=0)
    source: Text | None = None
    options: Options = Options()
    number: Name | None = None

    @model_serializer(mode="wrap")
    def _brief(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        shown = {"time", "min_rows", *self.model_fields_set}
        return {key: value for key, value in handler(self).items() if key in shown}

    @field_validator("source")
    @classmethod
    def _secret(cls, value: str | None) -> str | None:
        if value is not None and databases.masked(value) != value:
            # No ValueError: its message would show the value.
            raise ParamsError(render("collection", "password", source=databases.masked(value)))
        return value

    @model_validator(mode="after")
    def _timed(self) -> Self:
        if self.format and not self.time:
            raise ValueError("time to name the column whose format is given")
        return self


class Params(StageSection):
    """Section ``collection`` of ``params.yaml``."""

    start: Day | None = None
    as_of: Day | None = None
    tables: dict[Name, Source] = Field(min_length=1)
    datasheet: dict[Text, Text] = Field(min_length=1)

    @field_validator("tables")
    @classmethod
    def _folders(cls, tables: dict[str, Source]) -> dict[str, Source]:
        if bad := [name for name in tables if name.startswith(".") or set(name) & set('/\\:*?"<>|')]:
            raise ValueError(f"names that can be those of a folder; {', '.join(bad)} cannot")
        return tables

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        timed = [name for name, source in self.tables.items() if source.time]
        if timed and (self.start is None or self.as_of is None):
            raise ValueError(f'start and as_of, days such as "2013-09-30", as table {timed[0]} has a time')
        if self.start and self.as_of and self.as_of < self.start:
            raise ValueError(f"as_of on or after start ({self.start})")
        return self
