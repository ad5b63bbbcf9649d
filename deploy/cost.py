"""`make cost`: docs/cost.md anew, from the templates as they are and the prices as you have edited them."""
import argparse
import json
import sys
import tempfile
from pathlib import Path

from deploy import cost_design, cost_page
from deploy.processes import ROOT, PartFailed
from deploy.synth import synthesize
from local_cloud.cost import prices

PAGE = ROOT / "docs" / "cost.md"


def written(directory: Path, price_file: Path) -> str:
    """The page, from templates that are synthesized into this directory."""
    return cost_page.page(_design(directory, "basic"), _design(directory, "full"), prices.load(price_file))


def _design(directory: Path, monitoring: str) -> cost_design.Design:
    synthesize(directory / monitoring, json.dumps({"monitoring": monitoring}))
    return cost_design.load(directory / monitoring)


def main() -> int:
    """Entry of `make cost`."""
    parser = argparse.ArgumentParser(prog="make cost", description=__doc__)
    parser.add_argument("--prices", type=Path, default=prices.FILE, help="another price file")
    parser.add_argument("--print", action="store_true", help="print the page and leave docs/cost.md as it is")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="cost-") as directory:
            text = written(Path(directory), options.prices)
    except (PartFailed, prices.PriceFault, cost_design.DesignFault) as fault:
        print(f"make cost: {fault}", file=sys.stderr)
        return 1
    if options.print:
        print(text)
    else:
        PAGE.write_text(text)
        print(f"{PAGE.relative_to(ROOT)} is written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
