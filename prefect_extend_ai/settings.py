"""Settings of the Extend account from `EXTEND_*` variables or a `.env` file."""

from __future__ import annotations

from typing import Any

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from prefect_extend_ai.credentials import API_VERSION, ExtendCredentials, describe_errors
from prefect_extend_ai.errors import ExtendInputError

__all__ = ["ExtendSettings"]


class ExtendSettings(BaseSettings):
    """`EXTEND_*` from the environment or, where that has none, from `.env` in the working directory.

    The vendor's tools use the same names. An empty value counts as unset. Raises ExtendInputError where a value
    cannot be read.
    """

    model_config = SettingsConfigDict(
        env_prefix="EXTEND_",
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    api_key: SecretStr | None = Field(default=None, description="EXTEND_API_KEY: the API key.")
    workspace_id: str | None = Field(default=None, description="EXTEND_WORKSPACE_ID: the workspace, ws_...")
    region: str = Field(default="us", description="EXTEND_REGION: one of us, us2 and eu.")
    base_url: str | None = Field(default=None, description="EXTEND_BASE_URL: the API's address; overrides the region.")
    api_version: str = Field(default=API_VERSION, description="EXTEND_API_VERSION: the API's version.")
    requests_per_second: float = Field(default=10, description="EXTEND_REQUESTS_PER_SECOND: the plan's rate limit.")

    rate_limit: str | None = Field(default=None, description="EXTEND_RATE_LIMIT: the limit that workers share.")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            problem = _by_variable(error)
        except (UnicodeDecodeError, OSError) as error:
            problem = f".env cannot be read ({type(error).__name__}): it must be a text file in UTF-8"
        else:
            return
        values.clear()  # it may hold the key, and a traceback may show it
        raise ExtendInputError(problem)

    def credentials(self) -> ExtendCredentials:
        """The settings as a block. Raises ExtendInputError, naming the variable that is missing or invalid."""
        if self.api_key is None:
            raise ExtendInputError("no API key: set EXTEND_API_KEY in the environment or in .env")
        try:
            return ExtendCredentials(**{name: getattr(self, name) for name in ExtendSettings.model_fields})
        except ValidationError as error:
            problem = _by_variable(error)
        raise ExtendInputError(problem)


def _by_variable(error: ValidationError) -> str:
    return describe_errors(error, lambda field: f"EXTEND_{field.upper()}")
