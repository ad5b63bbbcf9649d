"""COVERAGE.md is what the registries say, and every type's statements make sense."""
import subprocess
import sys
from pathlib import Path

import pytest

from local_cloud import coverage
from local_cloud.resources import REGISTRY

ROOT = Path(__file__).parent.parent


def test_the_file_is_fresh() -> None:
    written = coverage.PATH.read_text(encoding="utf-8")
    assert written == coverage.markdown(), "stale: run `python -m local_cloud.coverage --write`"


def test_the_command_prints_the_same() -> None:
    done = subprocess.run([sys.executable, "-m", "local_cloud.coverage"], cwd=ROOT, capture_output=True, text=True,
                          check=True, encoding="utf-8")
    assert done.stdout == coverage.markdown()


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_no_property_is_stated_twice_and_every_statement_has_a_reason(name: str) -> None:
    kind = REGISTRY[name]
    lists = [set(kind.honoured), set(kind.stated), set(kind.refused)]
    assert sum(map(len, lists)) == len(set.union(*lists)), f"{name}: a property is in two lists"
    assert all(reason.strip() for reason in {**kind.stated, **kind.refused}.values())
    assert f"### {name}\n" in coverage.markdown()


def test_every_type_that_the_product_needs_is_there() -> None:
    needed = """DynamoDB::Table DynamoDB::GlobalTable S3::Bucket S3::BucketPolicy SQS::Queue SQS::QueuePolicy
        Lambda::Function Lambda::EventSourceMapping Lambda::Permission Lambda::EventInvokeConfig
        IAM::Role IAM::Policy IAM::ManagedPolicy
        Logs::LogGroup Logs::MetricFilter Logs::QueryDefinition IoT::TopicRule IoT::Thing IoT::ThingType IoT::Policy
        IoT::Certificate IoT::PolicyPrincipalAttachment IoT::ThingPrincipalAttachment IoT::Logging
        KinesisFirehose::DeliveryStream
        ApiGatewayV2::Api ApiGatewayV2::Integration ApiGatewayV2::Route
        ApiGatewayV2::Stage ApiGatewayV2::Authorizer SSM::Parameter SNS::Topic SNS::TopicPolicy SNS::Subscription
        CloudWatch::Alarm CloudWatch::Dashboard Cognito::UserPool Cognito::UserPoolClient Cognito::UserPoolDomain
        Glue::Database Glue::Table
        Athena::NamedQuery Athena::WorkGroup Budgets::Budget KMS::Key KMS::Alias CDK::Metadata"""
    assert {f"AWS::{name}" for name in needed.split()} <= set(REGISTRY)
