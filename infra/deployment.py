"""The whole wiring, from a context to four stacks; called by app.py and by the tests."""
from collections.abc import Mapping
from typing import Any

import aws_cdk as cdk

from infra.api_stack import ApiStack
from infra.device_stack import DeviceStack
from infra.ingest_stack import IngestStack
from infra.settings import Settings, product_version, read
from infra.storage_stack import StorageStack


def build(context: Mapping[str, Any], outdir: str | None = None) -> cdk.App:
    """The app with its stacks, not yet synthesized. context: cdk.json's; what the CDK CLI or CDK_CONTEXT_JSON gives
    goes before. Raises SynthesisFault for a context that does not hold together."""
    app = cdk.App(context=dict(context), outdir=outdir, tree_metadata=False)
    settings = read(app.node.get_all_context(), product_version())
    storage = StorageStack(app, f"{settings.title}Storage", settings, **_options(settings, "tables and archive"))
    ingest = IngestStack(app, f"{settings.title}Ingest", settings, **_options(settings, "rules, queues, functions"))
    api = ApiStack(app, f"{settings.title}Api", settings, **_options(settings, "HTTP API"))
    DeviceStack(app, f"{settings.title}Device", settings, **_options(settings, "things, policy, certificates"))
    for reader in (ingest, api):
        reader.add_stack_dependency(storage, "it reads the tables' names from SSM parameters")
    return app


def _options(settings: Settings, description: str) -> dict[str, Any]:
    """What all stacks share. The account is that of the credentials at deploy time; stack tags reach every resource."""
    return {"env": cdk.Environment(region=settings.region), "description": f"{settings.title}: {description}",
            "tags": {"project": "EdgeCloud", "deployment": settings.name}}
