"""DynamoDB Local, AWS's own engine, for the cloud half of the tests: Maven copies the jars once, a process runs them.

`python -m tests.dynamodb_local [pytest arguments]` runs those tests against it instead of moto: tests.cloud_tables
finds its address in EDGECLOUD_TEST_DYNAMODB. AWS licenses it for development and tests; it is never packaged.
"""
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from deploy.processes import ROOT, Part
from tests.bridge_rig import free_port
from tests.maven import jars

POM = ROOT / "tests" / "dynamodb-local.pom.xml"
CLOUD_HALF = ("tests/e2e/test_pipeline.py", "tests/test_table.py", "tests/test_incidents_cloud.py",
              "tests/test_notifications.py", "tests/test_presence.py", "tests/test_rebuild.py",
              "tests/test_rebuild_command.py", "tests/test_api_rollups.py",
              *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").glob("test_lambda_*.py")))
ADDRESS = "EDGECLOUD_TEST_DYNAMODB"
START_S = 120.0


class DynamoDbLocal:
    """One engine in memory, running. `url`: where it answers."""

    def __init__(self, directory: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.part = Part("DynamoDB Local", [
            "java", "-Xmx512m", "-cp", f"{jars(POM, 'DynamoDBLocal')}{os.sep}*",
            "software.amazon.dynamodb.services.local.main.ServerRunner",
            "-inMemory", "-sharedDb", "-port", str(port), "-disableTelemetry"], directory / "dynamodb-local.log")
        self.part.start()
        self.part.wait_ready("an answer", self._answers, START_S)

    def _answers(self) -> bool:
        """True when it speaks HTTP: it answers a request without a signature with an error of its own."""
        try:
            urllib.request.urlopen(self.url, timeout=2)
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def close(self) -> None:
        """End it."""
        self.part.stop(10)


def main() -> int:
    """Run pytest on the cloud half (or on the arguments) against DynamoDB Local; its exit code."""
    with tempfile.TemporaryDirectory() as scratch:
        engine = DynamoDbLocal(Path(scratch))
        try:
            environment = {**os.environ, ADDRESS: engine.url, "LOCAL_CLOUD_DYNAMODB_ENDPOINT": engine.url}
            return subprocess.run([sys.executable, "-m", "pytest", "-q", *(sys.argv[1:] or CLOUD_HALF)], cwd=ROOT,
                                  env=environment).returncode
        finally:
            engine.close()


if __name__ == "__main__":
    sys.exit(main())
