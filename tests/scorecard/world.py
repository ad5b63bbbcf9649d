"""The cloud of a scorecard run: one long-running local cloud, the synthesized template in it, shared by many sites."""
import threading
from pathlib import Path
from typing import Any

from boto3.dynamodb.conditions import Key

from deploy import control
from deploy.pipeline import Pipeline, Plan
from deploy.processes import ROOT, PartFailed
from deploy.synth import synthesize
from tests.kafka_rig import KafkaBroker

ASSEMBLY = ROOT / ".demo" / "cdk.out"


class SharedKafka:
    """One real Kafka broker for the run, started at first use; one row at a time has it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._broker: KafkaBroker | None = None
        self._taken = threading.Lock()

    def borrow(self) -> KafkaBroker:
        """Wait for it and take it, running; give it back with `give_back`."""
        self._taken.acquire()
        try:
            if self._broker is None:
                self._broker = KafkaBroker(self._directory)
            elif not self._broker.part.running:
                self._broker.start()
            return self._broker
        except BaseException:
            self._taken.release()
            raise

    def give_back(self) -> None:
        """The next row may have it."""
        self._taken.release()

    def end(self) -> None:
        """End the broker, if it was ever used."""
        if self._broker:
            self._broker.close()


class World:
    """Start it, give its certificates and ports to sites, switch its faults, read its tables."""

    def __init__(self, directory: Path, kafka: "SharedKafka") -> None:
        self.kafka = kafka
        self.pipeline = Pipeline(Plan(directory=directory, assembly=ASSEMBLY))
        self._tables: dict[str, Any] = {}

    def start(self) -> "World":
        """Synthesize when needed, and run the template; PartFailed with the log's end when it cannot."""
        synthesize(ASSEMBLY)
        self.pipeline.start_local_cloud()
        return self

    @property
    def thing(self) -> str:
        """The site's name in this cloud."""
        return self.pipeline.thing

    @property
    def gateway_port(self) -> int:
        """Where the bridge connects to."""
        return int(self.pipeline.ready["endpoints"]["gateway"]["port"])

    @property
    def certs(self) -> Path:
        """Directory with the root certificate, the thing's certificate and its key."""
        return self.pipeline.plan.directory / "certs"

    def gateway(self, **switches: dict[str, Any]) -> None:
        """Call the gateway's fault switches by name: `gateway(cut={})`."""
        self.pipeline.control("/faults", {"gateway": switches})

    def rules(self, enabled: bool) -> None:
        """Switch the rules for readings and events on or off: off, a message is acknowledged and goes nowhere."""
        names = (f"{self.pipeline.name}_readings", f"{self.pipeline.name}_events")
        self.pipeline.control("/faults", {"rules": dict.fromkeys(names, enabled)})

    def heal(self) -> None:
        """All switches off."""
        self.gateway(restore={}, accept_connects={}, throttle={"bytes_per_s": None}, clear={})
        self.rules(True)

    def functions(self, *words: str) -> list[str]:
        """Names of the deployed functions that have one of these words in them."""
        names = control.ask(self.pipeline.control_url, "/state")["functions"]
        found = [name for name in names if any(word in name.lower() for word in words)]
        if len(found) < len(words):
            raise PartFailed(f"of the functions {', '.join(names)}, {found} are named like {words}; expected one each")
        return found

    def kill_function(self, name: str) -> None:
        """SIGKILL of its process; the next invocation starts another."""
        self.pipeline.control("/faults", {"kill_function": name})

    def surface(self) -> None:
        """The visibility time-outs of the queues' messages are over."""
        self.pipeline.control("/faults", {"surface": True})

    def flush(self) -> None:
        """Have the cloud store and count all that it holds."""
        self.pipeline.control("/flush")

    def items(self, table: str, device: str) -> list[dict[str, Any]]:
        """Every item of a device in one table (readings, rollups, alerts), in the order of its key."""
        if table not in self._tables:
            self._tables[table] = self.pipeline.table(table)
        found: list[dict[str, Any]] = []
        more: dict[str, Any] = {}
        while True:
            page = self._tables[table].query(
                KeyConditionExpression=Key("pk").eq(f"{self.thing}#{device}"), ConsistentRead=True, **more)
            found += page["Items"]
            if "LastEvaluatedKey" not in page:
                return found
            more = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def close(self) -> None:
        """End the local cloud."""
        self.pipeline.close()
