"""Saved CloudWatch Logs Insights queries over the functions' logs, for monitoring_stack.py: they cost nothing to keep.

The fields are those of Lambda's JSON log format and of the handlers' `extra`.
"""
from collections.abc import Sequence

from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.settings import Settings, logical_id

BATCH_TO_PUT_IN = "PUT-THE-BATCH-ID-HERE"
QUERIES = {
    "one batch": "fields @timestamp, @log, level, message, batches, batch, site\n"
                 f"| filter @message like \"{BATCH_TO_PUT_IN}\"\n| sort @timestamp asc\n| limit 200",
    "errors": "fields @timestamp, @log, message, errorMessage, batch, site, @message\n"
              "| filter level in [\"ERROR\", \"CRITICAL\"] or ispresent(errorType)\n"
              "| sort @timestamp desc\n| limit 100",
    "batches that come again": "filter message like /not stored/ or message like /receipt not sent/\n"
                               "| stats count(*) as tries, max(@timestamp) as last by batch, message\n"
                               "| sort tries desc\n| limit 100",
    "receipts": "fields @timestamp, site, batches\n| filter message = \"stored\"\n| sort @timestamp desc\n| limit 100",
    "what watch saw": "fields @timestamp, bridges_silent, ledger_mismatch, certificate_days_left, incidents_open\n"
                      "| filter ispresent(bridges_silent)\n| sort @timestamp desc\n| limit 100",
}


def save(scope: Construct, settings: Settings, log_groups: Sequence[str]) -> None:
    """Each query under EdgeCloud/<deployment>/ in the console, ready to run over these log groups."""
    for title, text in QUERIES.items():
        logs.CfnQueryDefinition(scope, f"{logical_id(title)}Query", name=f"EdgeCloud/{settings.name}/{title}",
                                query_string=text, log_group_names=list(log_groups))
