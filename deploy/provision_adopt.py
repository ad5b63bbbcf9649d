"""What is there already before the first deployment: the thing, and the certificate in certs/; provision.py deploys
around them instead of making them again (CloudFormation refuses to create a thing that exists)."""
from dataclasses import dataclass

from botocore.exceptions import ClientError

from deploy.provision_files import Identity
from deploy.target import Target


@dataclass(frozen=True)
class Found:
    """The thing, whether it exists, and the ARN of the active certificate in certs/ that is attached to it, or ""."""

    thing: str
    thing_exists: bool
    certificate_arn: str

    def question(self) -> str:
        """What to ask before it is adopted."""
        with_what = "with the certificate in certs/" if self.certificate_arn else "with a new certificate"
        return (f"Thing {self.thing} exists already, and no stack of this deployment made it. "
                f"Deploy around it, {with_what}? It stays as it is.")

    def refusal(self) -> str:
        """What to do when it is not to be adopted."""
        return (f"nothing was changed; take another name (CONTEXT=\"things=…\"), or delete the thing: aws iot "
                f"delete-thing --thing-name {self.thing}")


def look(target: Target, thing: str, identity: Identity) -> Found:
    """Ask AWS IoT."""
    iot = target.client("iot")
    try:
        iot.describe_thing(thingName=thing)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        return Found(thing, False, "")
    own = identity.certificate_id()
    attached = iot.list_thing_principals(thingName=thing)["principals"] if own else []
    arns = [arn for arn in attached if arn.endswith(f":cert/{own}")]
    if arns and iot.describe_certificate(certificateId=own)["certificateDescription"]["status"] == "ACTIVE":
        return Found(thing, True, arns[0])
    return Found(thing, True, "")


def context_of(found: Found) -> list[str]:
    """KEY=VALUE pairs of CDK context that deploy around what was found."""
    pairs = [f"existing_thing={found.thing}"] if found.thing_exists else []
    return [*pairs, f"certificate_arn={found.certificate_arn}"] if found.certificate_arn else pairs
