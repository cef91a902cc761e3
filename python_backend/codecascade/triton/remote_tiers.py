"""Tiers that another Triton serves: `url` of a tier in the deployment file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from codecascade.deployment import Deployment
from codecascade.sampling import Generate, GenerateRequest, Generation
from codecascade.triton.contract import generate_inputs, generation
from codecascade.triton.remote import RemoteFailed, RemoteModel, Tls, numbers, texts, tls_from
from codecascade.types import InvalidRequest, TierUnavailable

URL = "CODECASCADE_TIERS_URL"  # host:port of one other Triton, for all tiers that have no url of their own
CA = "CODECASCADE_TIERS_CA"  # certificates to trust: the connections are then TLS
CERTIFICATE = "CODECASCADE_TIERS_CERTIFICATE"  # own certificate and its key, where the other side wants them
KEY = "CODECASCADE_TIERS_KEY"

_REFUSAL = "invalid request: "  # serving.REFUSAL, which only a Python model can import


class RemoteTiers:
    """`generate` of the tiers that have a url. Made and used in one event loop."""

    def __init__(self, deployment: Deployment, tls: Tls | None = None) -> None:
        self._urls = {name: tier.url for name, tier in deployment.tiers.items() if tier.url is not None}
        self._models = {name: RemoteModel(url, name, tls, deployment.tiers[name].timeout_s) for name, url in self._urls.items()}

    def __contains__(self, tier: str) -> bool:
        return tier in self._models

    async def generate(self, request: GenerateRequest) -> Generation:
        """Raises TierUnavailable naming the other server, or InvalidRequest when the tier refuses the request."""
        try:
            outputs = await self._models[request.tier](generate_inputs(request, texts, numbers))
        except RemoteFailed as error:
            if error.invalid:
                raise InvalidRequest(f"tier {request.tier}: {str(error).removeprefix(_REFUSAL)}") from error
            raise TierUnavailable(f"tier {request.tier} at {self._urls[request.tier]}: {error}") from error
        return generation(request, outputs)

    async def close(self) -> None:
        for model in self._models.values():
            await model.close()


def with_remote_tiers(local: Generate, deployment: Deployment, environ: Mapping[str, str]) -> Generate:
    """Each tier where it is: `local` for those without a url. Raises InvalidRequest, or ValueError for a url that is none."""
    everywhere = environ.get(URL) or None
    tiers = {name: replace(tier, url=tier.url or everywhere) for name, tier in deployment.tiers.items()}
    remote = RemoteTiers(replace(deployment, tiers=tiers), tls_from(environ, CA, CERTIFICATE, KEY))

    async def generate(request: GenerateRequest) -> Generation:
        return await (remote.generate if request.tier in remote else local)(request)

    return generate
