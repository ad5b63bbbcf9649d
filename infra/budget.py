"""A budget that tells by e-mail when the account's bill grows beyond what was meant: the context keys budget_usd and
budget_email; a stack of its own, made by deployment.py when there is a budget.

Budgets belong to no region, but CloudFormation makes them in few, eu-north-1 not among them: hence us-east-1. The stack
has no files, so that this region needs no bootstrap.
It is the whole account's: a budget for one deployment would need its tag activated for cost allocation by hand, and
shows nothing until somebody does.
"""
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_budgets as budgets
from constructs import Construct

from infra.settings import Settings

REGION = "us-east-1"
# (what is compared, at how many percent of the budget): before it is used up, when it is, and when it will be.
TOLD_AT = (("ACTUAL", 80), ("ACTUAL", 100), ("FORECASTED", 100))


class BudgetStack(cdk.Stack):
    """The budget; the e-mail addresses are those of budget_email, else of alert_email."""

    def __init__(self, scope: Construct, construct_id: str, settings: Settings, **kwargs: Any) -> None:
        super().__init__(scope, construct_id, synthesizer=cdk.BootstraplessSynthesizer(),
                         **{**kwargs, "env": cdk.Environment(region=REGION)})
        subscribers = [budgets.CfnBudget.SubscriberProperty(subscription_type="EMAIL", address=address)
                       for address in settings.budget_email or settings.alert_email]
        budgets.CfnBudget(
            self, "Budget",
            budget=budgets.CfnBudget.BudgetDataProperty(
                budget_type="COST", time_unit="MONTHLY",
                budget_limit=budgets.CfnBudget.SpendProperty(amount=settings.budget_usd, unit="USD")),
            notifications_with_subscribers=[budgets.CfnBudget.NotificationWithSubscribersProperty(
                notification=budgets.CfnBudget.NotificationProperty(
                    notification_type=kind, comparison_operator="GREATER_THAN", threshold=percent,
                    threshold_type="PERCENTAGE"), subscribers=subscribers) for kind, percent in TOLD_AT])
