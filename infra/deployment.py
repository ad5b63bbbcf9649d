"""The whole wiring, from a context to six stacks (with a budget, seven); called by app.py and by the tests."""
from collections.abc import Mapping
from typing import Any

import aws_cdk as cdk

from infra.api_stack import ApiStack
from infra.budget import BudgetStack
from infra.device_stack import DeviceStack
from infra.ingest_stack import IngestStack
from infra.monitoring_stack import MonitoringStack, timeouts_s
from infra.settings import Settings, product_version, read
from infra.storage_stack import StorageStack
from infra.web_stack import WebStack


def build(context: Mapping[str, Any], outdir: str | None = None) -> cdk.App:
    """The app with its stacks, not yet synthesized. context: cdk.json's; what the CDK CLI or CDK_CONTEXT_JSON gives
    goes before. Raises SynthesisFault for a context that does not hold together."""
    app = cdk.App(context=dict(context), outdir=outdir, tree_metadata=False)
    settings = read(app.node.get_all_context(), product_version())
    storage = StorageStack(app, f"{settings.title}Storage", settings, **_options(settings, "tables and archive"))
    ingest = IngestStack(app, f"{settings.title}Ingest", settings, **_options(settings, "rules, queues, functions"))
    web = WebStack(app, f"{settings.title}Web", settings, **_options(settings, "dashboard's page"))
    api = ApiStack(app, f"{settings.title}Api", settings, **_options(settings, "HTTP API"))
    DeviceStack(app, f"{settings.title}Device", settings, **_options(settings, "things, policy, certificates"))
    for reader in (ingest, api):
        reader.add_stack_dependency(storage, "it reads the tables' names from SSM parameters")
    api.add_stack_dependency(web, "it reads from an SSM parameter which page may call it")
    monitoring = MonitoringStack(app, f"{settings.title}Monitoring", settings, timeouts_s(app),
                                 **_options(settings, "alarms, log queries, dashboard"))
    for watched in (storage, ingest, api):
        monitoring.add_stack_dependency(watched, "it reads the names of what it watches from SSM parameters")
    api.add_stack_dependency(ingest, "POST /data archives its events in the stream of the route events")
    if settings.budget_usd:
        BudgetStack(app, f"{settings.title}Budget", settings, **_options(settings, "budget of the account"))
    return app


def _options(settings: Settings, description: str) -> dict[str, Any]:
    """What all stacks share. The account is that of the credentials at deploy time; stack tags reach every resource."""
    return {"env": cdk.Environment(region=settings.region), "description": f"{settings.title}: {description}",
            "tags": {"project": "EdgeCloud", "deployment": settings.name}}
