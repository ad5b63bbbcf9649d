"""`make demo`: the whole system on this machine; at the end every reading that was made is looked for in the cloud."""
import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from contract import routes
from deploy import alarms, atomic_file, control, notices, reconcile, web
from deploy.arrivals import Arrivals, percentiles
from deploy.context import merged
from deploy.faults import Fault
from deploy.pipeline import Pipeline, Plan, scratch_directory
from deploy.processes import ROOT, Part, PartFailed, python_module
from deploy.target import TargetFault, settings_of
from deploy.terminal import foreground, stop_event
from deploy.users import demo_token

RECEIPT_TIMEOUT_S = 20  # a busy machine's cloud is slow: what is sent again too soon makes it slower


def seconds(text: str) -> float:
    """0 for "" (until Ctrl-C), else a number above 0."""
    try:
        value = float(text or 0)
    except ValueError:
        value = -1.0
    if value < 0 or (text and not 0 < value < 10 ** 9):
        raise argparse.ArgumentTypeError(f"SECONDS is {text!r}; expected a number above 0, for example SECONDS=30")
    return value


def arguments() -> argparse.Namespace:
    """The command line; empty strings are what an unset make variable gives."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--seconds", type=seconds, default=0.0,
                        help="how long to publish; 0: until Ctrl-C")
    parser.add_argument("--report", default="", help="write the reconciliation here as JSON")
    parser.add_argument("--context", default="", help='CDK context, "k=v ..."')
    parser.add_argument("--lan", action="store_true", help="open the LAN broker to the network, behind a password")
    parser.add_argument("--page-port", type=int, default=8080, help="of the dashboard, or the next free one")
    return parser.parse_args()


class Demo:
    """One run: start, show, drain, reconcile, report."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        context = merged(options.context)
        settings_of(context)  # a fault in it, before anything is made
        self.started = float(os.environ.get("EDGECLOUD_STARTED") or time.time())
        self.directory = scratch_directory(ROOT / ".demo")
        self.plan = Plan(directory=self.directory, assembly=ROOT / ".demo" / "cdk.out", seconds=options.seconds,
                         batch_age_s=float(os.environ.get("BATCH_AGE") or 1), receipt_timeout_s=RECEIPT_TIMEOUT_S,
                         lan=options.lan, web_port=options.page_port,
                         context_json=json.dumps(context))
        self.pipeline = Pipeline(self.plan)
        self.arrivals: Arrivals | None = None
        self.pricing: Part | None = None
        self.setup_s = 0.0
        self.first_stored_s: float | None = None
        self.stop = stop_event()

    def run(self) -> int:
        """Exit code: 0 when all that was made is in the cloud once, in order; 1 otherwise."""
        try:
            self.start()
            self.show()
            report = self.finish()
        except (PartFailed, Fault) as failure:
            print(f"\ndemo: {failure}", file=sys.stderr)
            if self.pipeline.parts:
                print(f"Logs: {self.directory / 'logs'}", file=sys.stderr)
            else:
                shutil.rmtree(self.directory)  # nothing was started, nothing is worth keeping
            return 1
        finally:
            self.close()
        return self.verdict(report)

    def start(self) -> None:
        """Bring everything up and say where it is."""
        say("synthesizing the template and starting it on this machine ...")
        pipeline = self.pipeline
        pipeline.start()
        self.setup_s = time.time() - self.started
        self.arrivals = Arrivals(pipeline.table("readings"), pipeline.table("alerts"), pipeline.table("rollups"),
                                 pipeline.site)
        self.arrivals.start()
        broker, kafka = pipeline.broker, pipeline.kafka
        assert broker is not None and kafka is not None
        resources = pipeline.ready["resources"]
        say(f"{resources['applied']} resources of the template applied, {resources['refused']} refused; "
            f"LAN broker: {broker.kind} on port {broker.port}; Kafka: {kafka.kind} at {kafka.bootstrap_servers}")
        if broker.port != 1884:
            say(f"port 1884 is taken, so the LAN broker listens on {broker.port}")
        if broker.password:
            say("on the Pi: " + f"BROKER=<this machine's address> PORT={broker.port} MQTT_USERNAME=edgecloud "
                f"MQTT_PASSWORD={broker.password} python3 edgecloud-pi.pyz")
        api = pipeline.ready["endpoints"]["api"].rstrip("/")
        say(f"the API:    curl {api}/data    (the camera's events; /devices lists who is there)")
        say(f"            curl '{api}/sites/{pipeline.site}/devices/pi-1/readings?limit=3'")
        token = self.directory / "token"
        atomic_file.write(token, demo_token(pipeline.parameter, pipeline.client("cognito-idp")).encode(), private=True)
        say("as anywhere else than on this machine, with a token (an hour long): "
            f"curl -H \"Authorization: Bearer $(cat {token.relative_to(ROOT)})\" {api}/data")
        say(f"dashboard:  {self.dashboard()}")

    def dashboard(self) -> str:
        """Put its page there; where it is, or why it is not there. What things cost is reckoned beside all else."""
        pipeline, ready_file = self.pipeline, self.directory / "cloud.json"
        try:
            web.publish(pipeline.client("s3"), pipeline.parameter("web-bucket"),
                        web.local_addresses(pipeline.ready, pipeline.parameter))
        except Fault as fault:
            return f"not there: {fault}"
        self.pricing = Part("prices", python_module(
            "deploy.web", "--target", "local", "--cloud", str(ready_file), "--assembly", str(self.plan.assembly)),
            self.directory / "logs" / "prices.log", {"CDK_CONTEXT_JSON": self.plan.context_json}).start()
        page = str(pipeline.ready["endpoints"]["pages"][pipeline.parameter("web-url")])
        return f"{page}    (Sign in, then Go on as demo@local.example)"

    def show(self) -> None:
        """A line of counts that rewrites itself, until Ctrl-C or until the devices have finished."""
        live = sys.stdout.isatty()
        while not self.stop.wait(0.5 if live else 2):
            for name in self.pipeline.check():
                say(("\n" if live else "") + f"{name} had ended and was started again")
            counts = self.figures()["counts"]
            if counts["stored"] and self.first_stored_s is None:
                self.first_stored_s = time.time() - self.started
                say(("\n" if live else "") + f"first reading in the cloud after {self.first_stored_s:.0f} s")
            line = (f"published {counts['published']}  on disk {counts['committed']}  in the cloud {counts['stored']}"
                    f"  alerts {counts['alerts']}  waiting {counts['waiting']}")
            print(f"\r{line}  " if live else line, end="" if live else "\n", flush=True)
            if not any(part.running for part in self.pipeline.devices):
                break
        print(flush=True)

    def figures(self) -> dict[str, Any]:
        """What the live line shows."""
        status, arrivals = self.pipeline.status(), self.arrivals
        assert arrivals is not None
        return {
            "counts": {
                "published": sum(lines(path) for path in self.pipeline.records("pi")),
                "events": sum(lines(path) for path in self.pipeline.records("camera")),
                "committed": sum(counts.get("committed", 0) for device, counts in status.get("devices", {}).items()
                                 if device.startswith("pi-")), "stored": arrivals.stored,
                "alerts": arrivals.alerts_stored, "waiting": self.pipeline.waiting()},
        }

    def finish(self) -> dict[str, Any]:
        """Drain, then count what was made against what the cloud holds."""
        say("draining: publishers, bridge, queues, archive ...")
        pipeline, arrivals = self.pipeline, self.arrivals
        assert arrivals is not None
        pipeline.drain()
        arrivals.close()
        bill = control.ask(pipeline.control_url, "/bill")  # before we read the tables, though that is not billed
        counted = reconcile.everything(pipeline)
        return {
            **self.cost(bill),
            "wrong": counted.wrong,
            "others": counted.others,
            "readings": vars(counted.readings),
            "events": vars(counted.events),
            "alerts": vars(counted.alerts),
            "alarms": alarms.states(pipeline.control_url),
            "notices": notices.sent(pipeline.control_url),
            "latency_ms": {"alert": percentiles(arrivals.alert_ms), "stored": percentiles(arrivals.stored_ms)},
            "setup_s": round(self.setup_s, 1),
            "first_stored_s": None if self.first_stored_s is None else round(self.first_stored_s, 1),
            "resources": pipeline.ready["resources"],
        }

    def cost(self, bill: dict[str, Any]) -> dict[str, Any]:
        """What it would have cost on AWS; {} when no reading was made."""
        from deploy import cost_report  # here: it imports half of the cloud

        pipeline = self.pipeline
        readings = reconcile.recorded(pipeline.records("pi"))
        if not readings:
            return {}
        events = reconcile.recorded(pipeline.records("camera"))
        by_rule = control.ask(pipeline.control_url, "/state")["rules"]["by_rule"]
        ran = cost_report.Ran(
            readings, cost_report.span_s(readings), len(events), frozenset(one["device_id"] for one in events),
            by_rule[routes.rule_name(pipeline.name, "status")]["evaluated"], pipeline.plan.batch_age_s)
        return cost_report.by_assembly(bill, ran, pipeline.plan.assembly)

    def verdict(self, report: dict[str, Any]) -> int:
        """Print and write the report; the exit code."""
        wrong, others = report.pop("wrong"), report.pop("others")
        say(alarms.line(report["alarms"]))
        report["alarms"] = alarms.up(report["alarms"])
        told = report["notices"]
        report["notices"] = len(told)
        for kind in ("readings", "events"):
            say(f"{kind}: " + ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in report[kind].items()))
        say(f"alerts: raised {report['alerts']['raised']}, stored {report['alerts']['stored']}; "
            f"reading to cloud p50 {report['latency_ms']['stored']['p50']} ms, "
            f"p95 {report['latency_ms']['stored']['p95']} ms")
        say(notices.line(told))
        for line in cost_lines(report):
            say(line)
        if self.options.report:
            Path(self.options.report).write_text(reconcile.report_json(report))
        for device, count in sorted(others.items()):
            say(f"also in the cloud: {count} readings of {device}, which this demo did not make and does not count")
        if not wrong:
            say("nothing lost, nothing doubled, in order")
            shutil.rmtree(self.directory)
            return 0
        print(f"demo: not as it was made: {', '.join(wrong)}; everything is kept in {self.directory}", file=sys.stderr)
        return 1

    def close(self) -> None:
        """Stop every process."""
        if self.pricing:
            self.pricing.stop()
        self.pipeline.close()


def cost_lines(report: dict[str, Any]) -> list[str]:
    """What the run says of its cost."""
    from deploy import cost_report

    return cost_report.told(report) if "cost" in report else []


def lines(path: Path) -> int:
    """Number of lines of a file that grows."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def say(text: str) -> None:
    """One line for the person who runs the demo."""
    print(text, flush=True)


def main() -> int:
    """Entry of `make demo`."""
    try:
        demo = Demo(arguments())
    except (ValueError, TargetFault) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    with foreground():
        return demo.run()


if __name__ == "__main__":
    sys.exit(main())
