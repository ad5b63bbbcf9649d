"""CloudFormation's functions, conditions, dynamic references and parameters, against AWS's documented behaviour."""
from pathlib import Path
from typing import Any

import pytest

from local_cloud import parameters
from local_cloud.errors import DeployError, Unsupported
from local_cloud.intrinsics import Resolver, references
from local_cloud.resources import Applied

PSEUDO = {"AWS::Region": "eu-west-1", "AWS::AccountId": "123456789012", "AWS::Partition": "aws",
          "AWS::StackName": "S", "AWS::URLSuffix": "amazonaws.com", "AWS::NotificationARNs": []}
DEPLOYED = {"Queue": Applied("https://q/1", {"Arn": "arn:aws:sqs:::q", "QueueName": "q"})}
TEMPLATE = {
    "Mappings": {"Sizes": {"eu-west-1": {"disk": 8, "zones": ["a", "b"]}}},
    "Conditions": {
        "IsBig": {"Fn::Equals": [{"Ref": "Size"}, "big"]},
        "NotBig": {"Fn::Not": [{"Condition": "IsBig"}]},
        "Both": {"Fn::And": [{"Condition": "IsBig"}, {"Fn::Equals": [{"Ref": "AWS::Region"}, "eu-west-1"]}]},
        "Either": {"Fn::Or": [{"Condition": "NotBig"}, {"Fn::Equals": ["a", "b"]}]}}}


def ssm_value(name: str) -> str:
    if name != "/names/table":
        raise DeployError(f"SSM parameter {name} does not exist")
    return "table-1"


def resolve(node: Any, size: str = "big") -> Any:
    return Resolver(TEMPLATE, PSEUDO, {"Size": size, "List": ["x", "y"]}, DEPLOYED, ssm_value).resolve(node)


@pytest.mark.parametrize(("node", "expected"), [
    ({"Ref": "Queue"}, "https://q/1"),
    ({"Ref": "Size"}, "big"),
    ({"Ref": "List"}, ["x", "y"]),
    ({"Ref": "AWS::Region"}, "eu-west-1"),
    ({"Fn::GetAtt": ["Queue", "Arn"]}, "arn:aws:sqs:::q"),
    ({"Fn::GetAtt": "Queue.Arn"}, "arn:aws:sqs:::q"),
    ({"Fn::Sub": "${Queue.QueueName} in ${AWS::Region}, ${!Literal}, ${Size}"}, "q in eu-west-1, ${Literal}, big"),
    ({"Fn::Sub": ["${X}-${Size}", {"X": {"Fn::GetAtt": ["Queue", "QueueName"]}}]}, "q-big"),
    ({"Fn::Sub": "no ${!topic()} ${!newuuid()}"}, "no ${topic()} ${newuuid()}"),
    ({"Fn::Join": ["-", ["a", {"Ref": "Size"}, 3, True]]}, "a-big-3-true"),
    ({"Fn::Join": ["", {"Fn::Split": ["/", "a/b"]}]}, "ab"),
    ({"Fn::Join": [",", {"Ref": "List"}]}, "x,y"),
    ({"Fn::Select": ["1", ["a", "b"]]}, "b"),
    ({"Fn::Select": [0, {"Fn::Split": [":", {"Fn::GetAtt": ["Queue", "Arn"]}]}]}, "arn"),
    ({"Fn::FindInMap": ["Sizes", {"Ref": "AWS::Region"}, "disk"]}, 8),
    ({"Fn::Base64": "hello"}, "aGVsbG8="),
    ({"Fn::If": ["IsBig", "yes", "no"]}, "yes"),
    ({"Fn::If": ["NotBig", {"Ref": "Missing"}, "no"]}, "no"),
    ({"Fn::If": ["Both", 1, 2]}, 1),
    ({"Fn::If": ["Either", 1, 2]}, 2),
    ({"A": {"Ref": "AWS::NoValue"}, "B": [1, {"Fn::If": ["NotBig", 2, {"Ref": "AWS::NoValue"}]}]}, {"B": [1]}),
    ("x-{{resolve:ssm:/names/table}}-y", "x-table-1-y"),
    ({"Fn::Join": ["", ["{{resolve:ssm:/names", "/table}}"]]}, "table-1"),
    ({"Condition": {"StringEquals": {"a": "b"}}}, {"Condition": {"StringEquals": {"a": "b"}}}),
])
def test_values(node: Any, expected: Any) -> None:
    assert resolve(node) == expected


@pytest.mark.parametrize(("node", "text"), [
    ({"Fn::ImportValue": "x"}, "Fn::ImportValue: exports are not emulated; hand the value over as an SSM String"),
    ({"Fn::GetAZs": ""}, "Fn::GetAZs: unknown intrinsic; known: Fn::Base64"),
    ({"Fn::Cidr": ["10.0.0.0/16", 1, 8]}, "Fn::Cidr: unknown intrinsic"),
    ({"Fn::GetAtt": ["Queue", "Colour"]}, "Fn::GetAtt Queue.Colour: unknown attribute; known: Arn, QueueName"),
    ({"Ref": "AWS::Weather"}, "Ref AWS::Weather: unknown pseudo parameter"),
    ("{{resolve:secretsmanager:x}}", "only {{resolve:ssm:NAME}}"),
])
def test_what_is_not_emulated_is_refused(node: Any, text: str) -> None:
    with pytest.raises(Unsupported) as refusal:
        resolve(node)
    assert text in str(refusal.value)


@pytest.mark.parametrize(("node", "text"), [
    ({"Ref": "Missing"}, "'Missing', which is no parameter and no deployed resource"),
    ({"Fn::Sub": "${Missing}"}, "'Missing'"),
    ({"Fn::Sub": 3}, "Fn::Sub 3: expected a string"),
    ({"Fn::Select": [2, ["a", "b"]]}, "no such element"),
    ({"Fn::Join": ["", "text"]}, "expected a list"),
    ({"Fn::Join": ["", [{"a": 1}]]}, "is not a string"),
    ({"Fn::If": ["Unknown", 1, 2]}, "condition 'Unknown' is not defined"),
    ({"Fn::If": ["IsBig", 1]}, "expected [condition, then, else]"),
    ({"Fn::FindInMap": ["Sizes", "us-east-1", "disk"]}, "'us-east-1' is not in Mappings"),
    ("{{resolve:ssm:/other}}", "SSM parameter /other does not exist"),
])
def test_what_cloudformation_refuses_is_refused(node: Any, text: str) -> None:
    with pytest.raises(DeployError) as refusal:
        resolve(node)
    assert text in str(refusal.value)


def test_references_lists_every_name_but_no_literal_and_no_variable() -> None:
    node = {"A": {"Ref": "One"}, "B": [{"Fn::GetAtt": ["Two", "Arn"]}, {"Fn::GetAtt": "Three.Url"}],
            "C": {"Fn::Sub": ["${Four} ${Five.Arn} ${!Six} ${Seven} ${AWS::Region}", {"Seven": {"Ref": "Eight"}}]}}
    assert sorted(references(node), key=str) == sorted([
        ("One", None), ("Two", "Arn"), ("Three", "Url"), ("Four", None), ("Five", "Arn"), ("AWS::Region", None),
        ("Eight", None)], key=str)


def test_parameter_options_take_values_and_files(tmp_path: Path) -> None:
    (tmp_path / "csr.pem").write_text("line 1\nline 2\n")
    assert parameters.parse_options(["A:X=1=2", f"A:Y=@{tmp_path / 'csr.pem'}", "B:Z="]) == {
        "A": {"X": "1=2", "Y": "line 1\nline 2\n"}, "B": {"Z": ""}}


@pytest.mark.parametrize("option", ["X=1", "A:X", ":X=1", "A:=1", "A:X=@/does/not/exist"])
def test_a_wrong_parameter_option_is_named(option: str) -> None:
    with pytest.raises(DeployError, match="--parameter"):
        parameters.parse_options([option])


def values(given: dict[str, str], **declared: dict[str, Any]) -> dict[str, Any]:
    return parameters.values({"Parameters": declared}, given, ssm_value)


def test_parameter_types() -> None:
    assert values({"N": "4", "L": "a, b"}, N={"Type": "Number"}, L={"Type": "CommaDelimitedList"},
                  D={"Type": "String", "Default": 5},
                  T={"Type": "AWS::SSM::Parameter::Value<String>", "Default": "/names/table"}) == {
        "N": "4", "L": ["a", "b"], "D": "5", "T": "table-1"}


@pytest.mark.parametrize(("given", "declared", "text"), [
    ({}, {"Type": "String"}, "parameter P has no value; give --parameter STACK:P=VALUE"),
    ({"Q": "1"}, {"Type": "String", "Default": ""}, "parameter Q is not declared; declared: P"),
    ({"P": "x"}, {"Type": "Number"}, "'x' is not a number"),
    ({"P": "x"}, {"Type": "String", "AllowedValues": ["a"]}, "'x' is not one of"),
    ({"P": "x"}, {"Type": "String", "AllowedPattern": "[0-9]+"}, "does not match"),
    ({"P": "x"}, {"Type": "String", "MinLength": 2}, "1 characters, expected 2"),
    ({"P": "7"}, {"Type": "Number", "MaxValue": 6}, "7 is above 6"),
    ({"P": "1"}, {"Type": "Number", "MinValue": 2}, "1 is below 2"),
    ({"P": "/other"}, {"Type": "AWS::SSM::Parameter::Value<String>"}, "/other does not exist"),
])
def test_parameter_faults(given: dict[str, str], declared: dict[str, Any], text: str) -> None:
    with pytest.raises(DeployError) as fault:
        values(given, P=declared)
    assert text in str(fault.value)


def test_an_unknown_parameter_type_is_refused() -> None:
    with pytest.raises(Unsupported, match="AWS::EC2::VPC::Id is not emulated"):
        values({"P": "x"}, P={"Type": "AWS::EC2::VPC::Id"})
