"""Cross-origin answers of an HTTP API: its CorsConfiguration and a request's headers in, response headers out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local_cloud.errors import DeployError
from local_cloud.properties import flag, integer, refuse_unknown

WHERE = "AWS::ApiGatewayV2::Api.CorsConfiguration"


@dataclass(frozen=True, slots=True)
class Cors:
    """Who may call from a page of another origin; "*" stands for all."""

    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...]
    exposed: tuple[str, ...]
    credentials: bool
    max_age_s: int | None

    def allowed_origin(self, origin: str) -> str | None:
        """What Access-Control-Allow-Origin says to this origin, None for one that is not allowed."""
        if "*" in self.origins:
            return "*"
        wanted = origin.lower()
        for allowed in self.origins:
            scheme = allowed.removesuffix("*")
            if wanted == allowed.lower() or (scheme != allowed and wanted.startswith(scheme.lower())):
                return origin
        return None

    def response_headers(self, origin: str | None) -> dict[str, str]:
        """Headers for the answer to an actual request."""
        allowed = self.allowed_origin(origin) if origin else None
        if allowed is None:
            return {}
        found = {"access-control-allow-origin": allowed}
        if allowed != "*":
            found["vary"] = "origin"
        if self.credentials:
            found["access-control-allow-credentials"] = "true"
        if self.exposed:
            found["access-control-expose-headers"] = ",".join(self.exposed)
        return found

    def preflight_headers(self, origin: str) -> dict[str, str]:
        """Headers for the answer to a preflight; none for an origin that is not allowed (the browser then refuses)."""
        found = self.response_headers(origin)
        if not found:
            return {}
        found.pop("access-control-expose-headers", None)
        if self.methods:
            found["access-control-allow-methods"] = ",".join(self.methods)
        if self.headers:
            found["access-control-allow-headers"] = ",".join(self.headers)
        if self.max_age_s is not None:
            found["access-control-max-age"] = str(self.max_age_s)
        return found


def cors_from(properties: Mapping[str, Any] | None) -> Cors | None:
    """The CorsConfiguration of an API, None when it has none."""
    if properties is None:
        return None
    refuse_unknown(WHERE, properties, {"AllowOrigins", "AllowMethods", "AllowHeaders", "ExposeHeaders",
                                       "AllowCredentials", "MaxAge"})
    origins = tuple(properties.get("AllowOrigins", ()))
    credentials = flag(f"{WHERE}.AllowCredentials", properties.get("AllowCredentials", False))
    if credentials and "*" in origins:
        raise DeployError(f"{WHERE}: AllowCredentials does not go with the origin *")
    max_age = properties.get("MaxAge")
    return Cors(origins, tuple(properties.get("AllowMethods", ())), tuple(properties.get("AllowHeaders", ())),
                tuple(properties.get("ExposeHeaders", ())), credentials,
                None if max_age is None else integer(f"{WHERE}.MaxAge", max_age, -1, 86_400))
