"""HTTP for the commands: a request goes out, the bytes of its answer come back, a failure becomes one sentence."""
import urllib.error
import urllib.request
from collections.abc import Mapping

SHOWN_OF_A_REFUSAL = 2000


class FetchFault(Exception):
    """No answer, or a refusal: method, address, and what was said."""


def fetch(url: str, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None,
          within_s: float = 60) -> bytes:
    """The body of a 2xx answer. Raises FetchFault."""
    request = urllib.request.Request(url, data=body, method=method,
                                     headers={"Content-Type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=within_s) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as refusal:
        text = refusal.read().decode(errors="replace")[:SHOWN_OF_A_REFUSAL]
        raise FetchFault(f"{method} {url}: answered {refusal.code}: {text}") from None
    except (OSError, ValueError) as error:
        raise FetchFault(f"{method} {url}: {error}") from None
