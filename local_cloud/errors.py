"""The two ways a template can stop the start: what the local cloud does not emulate, and what AWS would refuse too.

Raised by every part that reads CloudFormation properties; caught by the deployer, which adds the stack and logical id.
"""


class Unsupported(Exception):
    """A property, type, intrinsic, function or action that the local cloud would not honour: "<which>: <why>"."""


class DeployError(Exception):
    """A template, parameter or resource that CloudFormation would refuse as well; says where and what to do."""
