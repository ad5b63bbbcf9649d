"""A local cloud that runs any CDK assembly: reads `cdk.out`, deploys it strictly, runs it until told to stop."""
