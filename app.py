"""The CDK app: cdk.json's context in, CloudFormation templates and packages in cdk.out (or $CDK_OUTDIR) out.

Run by `python app.py` or by the CDK CLI, with the same result; needs no AWS account, network, Docker or git.
"""
import json
import os
import sys
from pathlib import Path

from infra.errors import SynthesisFault
from infra.nodejs import use_nodejs

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Synthesize. The CLI gives cdk.json's context to the app; a plain run would not, so it is given here."""
    use_nodejs()
    from infra.deployment import build  # imports aws_cdk, which starts Node.js at once

    context = json.loads((HERE / "cdk.json").read_text(encoding="utf-8"))["context"]
    build(context, os.environ.get("CDK_OUTDIR") or str(HERE / "cdk.out")).synth()


if __name__ == "__main__":
    try:
        main()
    except SynthesisFault as fault:
        sys.exit(f"app.py: {fault}")
