"""cdk-nag's findings and their answers: what has none is told, an answer to nothing too; and a bad stack is found."""
from pathlib import Path

import pytest

from deploy.nag import ACKNOWLEDGED, Acknowledged, Finding, judge, patterned, report_of
from infra.nodejs import use_nodejs

BUCKET = Finding("AwsSolutions-S1", "EdgeCloudStorage/Archive/Resource")


def test_a_finding_without_an_answer_is_told_with_what_to_do() -> None:
    (line,) = judge([BUCKET, BUCKET], [])
    assert line.startswith("EdgeCloudStorage/Archive/Resource: AwsSolutions-S1: put it right, or answer it in")


def test_an_answer_serves_its_rule_and_its_constructs_alone() -> None:
    answer = Acknowledged("AwsSolutions-S1", "*Storage/Archive/*", "why")
    assert judge([BUCKET], [answer]) == []
    for other in (Finding("AwsSolutions-S2", BUCKET.path), Finding(BUCKET.rule, "EdgeCloudApi/Archive/Resource")):
        assert [line.partition(":")[0] for line in judge([BUCKET, other], [answer])] == [other.path]


def test_an_answer_that_answers_nothing_is_to_go() -> None:
    (line,) = judge([], [Acknowledged("AwsSolutions-S1", "*", "why")])
    assert "answers nothing any more" in line


@pytest.mark.parametrize("pattern, text, fits", [
    ("AwsSolutions-IAM5[Resource::[*]]", "AwsSolutions-IAM5[Resource::*]", True),
    ("AwsSolutions-IAM5[Resource::[*]]", "AwsSolutions-IAM5[Resource::arn:x]", False),
    ("AwsSolutions-IAM5[Resource::b/*/[*]]", "AwsSolutions-IAM5[Resource::b/c/*]", True),
    ("AwsSolutions-IAM5[Resource::b/*/[*]]", "AwsSolutions-IAM5[Resource::*]", False),
    ("[a]", "a", False)])
def test_brackets_mean_themselves(pattern: str, text: str, fits: bool) -> None:
    assert patterned(pattern, text) is fits


def test_there_are_few_answers_each_with_a_reason() -> None:
    assert len(ACKNOWLEDGED) <= 18
    assert len({(one.rule, one.path) for one in ACKNOWLEDGED}) == len(ACKNOWLEDGED)
    for one in ACKNOWLEDGED:
        assert len(one.reason) > 60 and one.reason.endswith("."), one


def test_what_is_wrong_is_found(tmp_path: Path) -> None:
    """Both packs run: each finds what only it looks for."""
    use_nodejs()
    import aws_cdk as cdk
    from aws_cdk import aws_lambda as lambda_
    from aws_cdk import aws_sqs as sqs

    app = cdk.App(outdir=str(tmp_path))
    stack = cdk.Stack(app, "Bad")
    sqs.Queue(stack, "Open")
    lambda_.Function(stack, "Untraced", code=lambda_.Code.from_inline("x"), handler="index.handler",
                     runtime=lambda_.Runtime.PYTHON_3_14)
    found = report_of(app, tmp_path)
    assert Finding("AwsSolutions-SQS4", "Bad/Open/Resource") in found  # takes requests without TLS
    assert Finding("Serverless-LambdaTracing", "Bad/Untraced/Resource") in found
    assert len(judge(found)) >= len(set(found)) - 2  # hardly an answer of ours fits another's stack
