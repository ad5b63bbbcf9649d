"""`python -m deploy.nag`: cdk-nag's AwsSolutions and Serverless packs over every stack in, what they find out, less
what ACKNOWLEDGED answers with a reason. Part of `make check`; the templates themselves know nothing of it."""
import json
import sys
import tempfile
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from deploy.processes import ROOT
from infra.nodejs import use_nodejs

REPORT = "validation-report.json"
# Every choice that adds resources; each is looked at.
CONTEXTS: tuple[dict[str, str], ...] = ({}, {"monitoring": "full"})


class Finding(NamedTuple):
    """A rule that a construct breaks: `AwsSolutions-S1`, `EdgeCloudStorage/Archive/Resource`."""

    rule: str
    path: str


class Acknowledged(NamedTuple):
    """Findings answered with a reason; rule and path may hold * and ? (no other wildcard)."""

    rule: str
    path: str
    reason: str


ACKNOWLEDGED = (
    Acknowledged("AwsSolutions-S1", "*Storage/Archive/*",
                 "Only Firehose and the rules write here and only the owner reads; access logs would need a second "
                 "bucket to protect. Who needs to know of reads turns on CloudTrail's data events for the bucket."),
    Acknowledged("AwsSolutions-IAM5[Resource::arn:aws:s3:::<ArchiveBucket>/*/[*]]", "*Ingest/*Role/*",
                 "An object's key ends in a time and a random id; the wildcard stands behind a prefix that is the "
                 "role's own, errors/<rule>/ or archive/<route>/."),
    Acknowledged("AwsSolutions-IAM5[Resource::[*]]", "*Role/*",
                 "Actions that take no resource, such as dynamodb:ListStreams; tests/privileges.py has the "
                 "list of them and refuses any other."),
    Acknowledged("Serverless-LambdaStarPermissions", "*Role/*",
                 "The same statements as in the row above: actions that take no resource."),
    Acknowledged("Serverless-LambdaTracing", "*Function/*",
                 "monitoring=full turns it on; by default it would cost more than the rest of an invocation."),
    Acknowledged("AwsSolutions-SQS3", "*StreamDeadLetters/*",
                 "It is a dead-letter queue: of the stream's mapping, which names it as destination, not as redrive."),
    Acknowledged("Serverless-SQSRedrivePolicy", "*DeadLetters/*",
                 "These are the dead-letter queues; each has an alarm, and `make redrive` empties it."),
    Acknowledged("Serverless-LambdaDLQ", "*",
                 "A function's own dead-letter queue takes asynchronous events alone. Queues, streams and the API call "
                 "synchronously, the first two with dead letters of their own; watch is called again five minutes "
                 "later, and does then what it did not do before."),
    Acknowledged("Serverless-EventBusDLQ", "*Ingest/WatchSchedule/*",
                 "A start that EventBridge could not deliver is worth nothing later: the next comes in five minutes."),
    Acknowledged("AwsSolutions-APIG4", "*Api/HttpApi/GET--health/*",
                 "GET /health alone asks for no token, so that a monitor needs none; it tells no more than that."),
    Acknowledged("AwsSolutions-COG2", "*Api/Users/*",
                 "A second factor is each user's choice: nobody signs up alone, and who loses a telephone at a remote "
                 "site must not lose the site's readings with it."),
    Acknowledged("AwsSolutions-COG8", "*Api/Users/*",
                 "The Plus plan costs per user and guards public sign-up; here an administrator makes every user."),
    Acknowledged("AwsSolutions-S1", "*Web/Page/*",
                 "It holds the dashboard's page alone, which is public; CloudFront alone reads it."),
    Acknowledged("AwsSolutions-CFR1", "*Web/Site/*",
                 "A page without data is nothing to keep from a country; the API asks for a token everywhere."),
    Acknowledged("AwsSolutions-CFR2", "*Web/Site/*",
                 "A web ACL costs more a month than all the rest, to guard files that are public."),
    Acknowledged("AwsSolutions-CFR3", "*Web/Site/*",
                 "Who fetched a public page is worth no second bucket; calls of the API are logged."),
    Acknowledged("AwsSolutions-CFR4", "*Web/Site/*",
                 "CloudFront's own domain name and certificate fix the lowest TLS version; to raise it takes a domain "
                 "and a certificate of the owner's. Plain HTTP is refused."),
    Acknowledged("Serverless-LambdaEventSourceMappingDestination", "*Ingest/*Mapping/*",
                 "Lambda has no on-failure destination for SQS: the queue's redrive policy is that destination."),
)


def patterned(pattern: str, text: str) -> bool:
    """Whether the text fits, where * and ? are wildcards and [*] is a star itself; other brackets mean themselves."""
    kept = pattern.replace("[*]", "\0")
    return fnmatchcase(text, kept.replace("[", "[[]").replace("\0", "[*]"))


def judge(found: Iterable[Finding], answers: Iterable[Acknowledged] = ACKNOWLEDGED) -> list[str]:
    """What remains to be done, one line each: findings without an answer, and answers that answer nothing."""
    found = sorted(set(found))
    lines, used = [], set()
    for one in found:
        fitting = [each for each in answers if patterned(each.rule, one.rule) and patterned(each.path, one.path)]
        used |= set(fitting)
        if not fitting:
            lines.append(f"{one.path}: {one.rule}: put it right, or answer it in deploy/nag.py's ACKNOWLEDGED")
    return lines + [f"ACKNOWLEDGED {each.rule} {each.path}: answers nothing any more; take it out"
                    for each in answers if each not in used]


def report_of(app: Any, outdir: Path) -> list[Finding]:
    """Synthesize the app into `outdir` under both packs and read what they found.

    RuntimeError when the synthesis failed for another reason than findings, or the packs did not run.
    """
    import aws_cdk as cdk  # starts Node.js
    import cdk_nag

    cdk.Validations.of(app).add_plugins(cdk_nag.AwsSolutionsChecks(app), cdk_nag.ServerlessChecks(app))
    try:
        app.synth()
    except RuntimeError as failed:  # how jsii says that a plug-in found something
        if "ValidationFailed" not in str(failed):
            raise
    reports = json.loads((outdir / REPORT).read_text(encoding="utf-8"))["pluginReports"]
    names = {report["pluginName"] for report in reports}
    if not {"AwsSolutions", "Serverless"} <= names:
        raise RuntimeError(f"cdk-nag: got reports of {sorted(names)}, expected AwsSolutions and Serverless")
    return [Finding(violation["ruleName"], construct["constructPath"])
            for report in reports for violation in report["violations"]
            for construct in violation["violatingConstructs"]]


def findings(context: dict[str, str]) -> list[Finding]:
    """The findings for a deployment with this context, cdk.json's flags included."""
    use_nodejs()
    from infra.deployment import build

    flags = json.loads((ROOT / "cdk.json").read_text(encoding="utf-8"))["context"]
    with tempfile.TemporaryDirectory(prefix="nag-") as out:
        return report_of(build({**flags, **context}, out), Path(out))


def main() -> int:
    """Print what remains to be done; exit 1 when anything does."""
    found = [one for context in CONTEXTS for one in findings(context)]
    lines = judge(found)
    print("\n".join(lines) or f"{len(set(found))} findings, each answered by one of {len(ACKNOWLEDGED)} reasons")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
