"""The Prefect block for an Extend account: key, workspace, address and rate limit."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any, Literal

import httpx
from prefect.blocks.abstract import CredentialsBlock
from prefect.client.orchestration import get_client
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError, rate_limit
from prefect.exceptions import ObjectNotFound, PrefectException
from pydantic import ConfigDict, Field, SecretStr, ValidationError, field_validator

from prefect_extend_ai.client import ExtendClient
from prefect_extend_ai.client.transport import Transport
from prefect_extend_ai.errors import ExtendInputError, SharedLimitError

__all__ = ["API_URLS", "API_VERSION", "ExtendCredentials", "describe_errors"]

API_URLS = {
    "us": "https://api.extend.ai",
    "us2": "https://api.us2.extend.app",
    "eu": "https://api.eu1.extend.ai",
}
"""The API's address for each region (vendor's page on deployments; US2 does end in `.app`)."""

API_VERSION = "2026-02-09"
"""The version of Extend's API that this package is written for."""

ASTERISKS = (
    "consists of asterisks. Prefect stores them in place of a secret when a flow is called directly with a "
    "block and the run is then retried from the UI. Start the flow from a deployment whose credentials are a saved "
    "block, or call it again from your code"
)


class ExtendCredentials(CredentialsBlock):
    """The Extend account that runs are read from and cancelled in.

    Creating the block sends nothing. An invalid value raises a pydantic `ValidationError` that shows no values; for a
    block that was saved without validation, `ensure_usable` and `get_client` raise ExtendInputError.

    Example:
        Load the saved block and read one run:
        ```python
        import asyncio
        from prefect_extend_ai import ExtendCredentials

        credentials = ExtendCredentials.load("BLOCK_NAME")

        async def status(run_id):
            async with credentials.get_client() as client:
                return (await client.get_run(run_id)).status

        print(asyncio.run(status("clr_1234")))
        ```
        In an `async` flow: `await ExtendCredentials.aload("BLOCK_NAME")`.
    """

    _block_type_name = "Extend Credentials"
    _block_type_slug = "extend-credentials"
    # For the block's card in the UI; the docstring is for developers.
    _description = "The Extend account whose document runs are read and cancelled: its API key, region and rate limit."
    # No _logo_url: Prefect accepts only http addresses, and one that does not load shows as a broken image.
    _documentation_url = "https://docs.extend.ai"  # type: ignore[assignment]  # Prefect annotates HttpUrl, takes str

    # Hidden, because pydantic's errors would otherwise show the rejected key.
    model_config = ConfigDict(hide_input_in_errors=True)

    api_key: SecretStr = Field(
        title="API key",
        description="The key that Extend's dashboard shows under developer settings.",
    )
    workspace_id: str | None = Field(
        default=None,
        title="Workspace ID",
        description="The workspace (ws_...) to work in. An organization's key needs it, a workspace's key does not.",
    )
    region: Literal["us", "us2", "eu"] = Field(
        default="us",
        title="Region",
        description="Where the account lives: us is api.extend.ai, us2 is api.us2.extend.app, eu is api.eu1.extend.ai.",
    )
    base_url: str | None = Field(
        default=None,
        title="Base URL",
        description="The API's address, if it is not that of a region; overrides the region. Must be https.",
    )
    api_version: str = Field(
        default=API_VERSION,
        title="API version",
        description="The version of Extend's API that requests ask for.",
    )
    requests_per_second: float = Field(
        default=10,
        gt=0,
        allow_inf_nan=False,
        title="Requests per second",
        description="The plan's rate limit, which holds for reads and for writes separately: 10, 25 or 75.",
    )

    rate_limit: str | None = Field(
        default=None,
        title="Shared rate limit",
        description="The name of a Prefect global concurrency limit with slot decay, where several workers share what "
        "the plan allows. Every request then takes one of its slots.",
    )

    @field_validator("workspace_id", "base_url", "rate_limit", mode="before")
    @classmethod
    def _blank_is_unset(cls, value: Any) -> Any:
        """The UI sends an empty string for an empty field."""
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator("api_key")
    @classmethod
    def _key_can_be_sent(cls, value: SecretStr) -> SecretStr:
        # Only the function below holds the plain key in a local variable, and it has returned before the raise.
        if problem := _key_problem(value):
            raise ValueError(f"the API key {problem}")
        return value

    @field_validator("workspace_id", "api_version")
    @classmethod
    def _fits_a_header(cls, value: str | None) -> str | None:
        if value is not None and (problem := _header_problem(value)):
            raise ValueError(problem)
        return value

    @field_validator("base_url")
    @classmethod
    def _is_safe_to_send_a_key_to(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if problem := _url_problem(value):
            raise ValueError(f"the base URL {problem}")
        # Normalised by httpx: `HTTPS://API.Extend.ai` is the same address as `https://api.extend.ai`.
        return str(httpx.URL(value)).rstrip("/")

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        # A block loaded with validate=False holds its key as a plain string.
        return [(name, "**********" if name == "api_key" else value) for name, value in super().__repr_args__()]

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> ExtendCredentials:
        """Accept a saved block with invalid values: `ensure_usable` then says what to do.

        Prefect loads the block of a flow run with this method, and would report an error from it only as "Failed to
        resolve block references in parameters". The constructor rejects an invalid value at once.
        """
        try:
            return super().model_validate(obj, **options)
        except ValidationError:
            if not isinstance(obj, dict):
                raise
        return cls.model_construct(**{**obj, "api_key": SecretStr(obj.get("api_key") or "")})

    @property
    def api_url(self) -> str:
        """The address that requests go to: `base_url`, or else the region's."""
        return self.base_url or API_URLS[self.region]

    def ensure_usable(self) -> None:
        """Validate the block again: Prefect's UI saves blocks without validation.

        Raises ExtendInputError, which says what is invalid and what to do. Nothing is sent.
        """
        self._checked()

    def get_client(self) -> ExtendClient:
        """A client for this account, for one use: `async with credentials.get_client() as client`.

        Raises ExtendInputError where the block is not usable.
        """
        checked = self._checked()
        return ExtendClient(
            Transport(
                checked.api_url,
                checked.api_key,
                workspace_id=checked.workspace_id,
                api_version=checked.api_version,
                requests_per_second=checked.requests_per_second,
                permit=_SharedLimit(checked.rate_limit) if checked.rate_limit else None,
            )
        )

    def _checked(self) -> ExtendCredentials:
        try:
            return ExtendCredentials(**{name: getattr(self, name, None) for name in ExtendCredentials.model_fields})
        except ValidationError as error:
            problem = describe_errors(error)
        raise ExtendInputError(f"{problem}. Fix the Extend Credentials block (Prefect UI, Blocks) and save it again")


class _SharedLimit:
    """A Prefect global concurrency limit that each request waits for."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._known = False

    async def __call__(self) -> None:
        """Take one slot. Raises SharedLimitError where that fails."""
        try:
            if not self._known:
                await self._verify()
            await rate_limit(self._name, strict=True)
        except (ConcurrencySlotAcquisitionError, PrefectException, httpx.HTTPError) as error:
            problem = (str(error) or type(error).__name__).splitlines()[0]
        else:
            return
        raise SharedLimitError(
            f"The shared rate limit {self._name!r} cannot be used, so nothing was sent ({problem}). It must be an "
            "active global concurrency limit with slot decay in Prefect. For 10 requests a second: "
            f"`prefect gcl create {self._name} --limit 10 --slot-decay-per-second 10`"
        )

    async def _verify(self) -> None:
        # `strict` raises for a missing limit, but not for an inactive one.
        try:
            async with get_client() as prefect:
                limit = await prefect.read_global_concurrency_limit_by_name(self._name)
        except ObjectNotFound:
            raise ConcurrencySlotAcquisitionError("this limit does not exist") from None
        if not limit.active:
            raise ConcurrencySlotAcquisitionError("it is not active")
        self._known = True


def describe_errors(error: ValidationError, name: Callable[[str], str] = str) -> str:
    """The messages of a validation error, field by field, without the rejected values.

    Args:
        error: the error.
        name: the name of a field for the reader.
    """
    said = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{name(str(each['loc'][0]))}: {each['msg'].removeprefix('Value error, ')}" for each in said)


def _key_problem(key: SecretStr) -> str | None:
    plain = key.get_secret_value()
    if not plain.strip():
        return "is empty"
    if not plain.strip().strip("*"):
        return ASTERISKS
    return _header_problem(plain)


def _header_problem(value: str) -> str | None:
    """Why a value cannot be sent in a header; None where it can."""
    if not value:
        return "is empty"
    if not (value.isascii() and value.isprintable()) or " " in value:
        return "contains a space, a line break or another character that cannot be sent: check what was pasted"
    return None


def _url_problem(value: str) -> str | None:
    """Why the key must not be sent to this address; None where it may. Without the address: it may hold a password."""
    if not value.isprintable() or " " in value:
        return "contains a space, a line break or another character that an address cannot have"
    try:
        url = httpx.URL(value)
    except httpx.InvalidURL:
        return "is not an address: write it like https://api.extend.ai"
    if url.port is not None and not 0 < url.port < 65536:
        return "has an invalid port"
    if not url.host:
        return "has no host: write it like https://api.extend.ai"
    if url.scheme != "https" and not (url.scheme == "http" and _is_loopback(url.host)):
        return "must begin with https://, or the key would be sent unencrypted (http:// is for this machine only)"
    if url.userinfo or "?" in value or "#" in value:
        return "must not contain a user name, a password, a query (?) or a fragment (#)"
    return None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
