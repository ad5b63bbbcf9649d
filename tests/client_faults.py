"""Clients that stand before boto3's in a function's container (lambdas.table.CLIENTS): they watch, or fail."""
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from lambdas import table


class Killed(BaseException):
    """The process is gone: nothing in it can react."""


def throttled(operation: str) -> ClientError:
    """What boto3 raises when AWS wants less of this operation."""
    return ClientError({"Error": {"Code": "ThrottlingException", "Message": "slow down"}}, operation)


class Intercepted:
    """A client of `service` before which `before(operation, request)` is called; that may raise, or answer in the
    client's place. `real`: the client itself. What `before` does with the service itself is not intercepted."""

    def __init__(self, service: str, before: Callable[[str, Any], Any]) -> None:
        self.real, self._service, self._before = table.client(service), service, before
        table.CLIENTS[service] = self

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        def call(**request: Any) -> Any:
            table.CLIENTS[self._service] = self.real
            try:
                answer = self._before(operation, request)
            finally:
                table.CLIENTS[self._service] = self
            return getattr(self.real, operation)(**request) if answer is None else answer
        return call


def fail_once(service: str, operation: str, error: BaseException, fits: str = "", times: int = 1) -> None:
    """Let the first `times` calls of this operation whose request holds the text `fits` end in the error."""
    left = [error] * times

    def before(called: str, request: Any) -> None:
        if called == operation and fits in str(request) and left:
            raise left.pop()

    Intercepted(service, before)
