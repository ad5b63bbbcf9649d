"""The cloud side as CloudFormation: app.py comes in with the context, six stacks go out; needs no AWS account."""
