"""Takes away what `make verify` made: items of its two devices, its ledger, archive objects that hold nothing else."""
import contextlib
from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from deploy.target import Target
from deploy.verify_hops import Hops
from deploy.verify_messages import Run


class Cleanup:
    """remember() before, clean() after; what cannot be taken away is named, and nothing else is touched."""

    def __init__(self, target: Target, run: Run, hops: Hops, say: Callable[[str], None]) -> None:
        self._target, self._run, self._hops, self._say = target, run, hops, say
        self._ledger: dict[str, Any] | None = None
        self._watched: dict[str, Any] | None = None

    @property
    def _ledger_key(self) -> dict[str, str]:
        return {"pk": "status", "sk": self._run.thing}

    @property
    def _watched_key(self) -> dict[str, str]:
        return {"pk": "watch", "sk": self._run.thing}

    def remember(self) -> None:
        """Keep the bridge's own ledger, which the run's replaces for a while, and what watch made of it."""
        rollups = self._target.table("rollups")
        self._ledger = rollups.get_item(Key=self._ledger_key).get("Item")
        self._watched = rollups.get_item(Key=self._watched_key).get("Item")

    def clean(self) -> None:
        """Delete everything of this run."""
        left: list[str] = []
        for what, step in (("items", self._items), ("ledger", self._restore_ledger), ("watch", self._restore_watched),
                           ("archive", self._archive)):
            try:
                left += step()
            except (ClientError, BotoCoreError) as error:
                left.append(f"{what}: {error}")
        self._say("cleaned up" if not left else "left behind (everything of this run names "
                  f"{self._run.outbox}):\n  " + "\n  ".join(left))

    def _items(self) -> list[str]:
        for table in ("readings", "rollups", "alerts", "incidents"):
            with self._target.table(table).batch_writer() as writer:
                for device in (self._run.sensor, self._run.camera):
                    for item in self._hops.items(table, self._hops.key(device)):
                        writer.delete_item(Key={"pk": item["pk"], "sk": item["sk"]})
        with self._target.table("rollups").batch_writer() as writer:
            for kind, device in (("readings", self._run.sensor), ("events", self._run.camera)):
                writer.delete_item(Key={"pk": "devices", "sk": f"{kind}#{self._hops.key(device)}"})
        return []

    def _restore_ledger(self) -> list[str]:
        """Put the former ledger back, unless the bridge has told a newer one meanwhile."""
        table, name = self._target.table("rollups"), {"#at": "at"}
        ours = {"ConditionExpression": "#at = :at", "ExpressionAttributeNames": name,
                "ExpressionAttributeValues": {":at": self._run.now_ms}}
        with contextlib.suppress(self._target.client("dynamodb").exceptions.ConditionalCheckFailedException):
            if self._ledger is None:
                table.delete_item(Key=self._ledger_key, **ours)
            else:
                table.put_item(Item=self._ledger, **ours)
        return []

    def _restore_watched(self) -> list[str]:
        """Undo what watch noted of the run's ledger: its counts would make the bridge's own look like new losses."""
        table = self._target.table("rollups")
        if self._watched is None:
            table.delete_item(Key=self._watched_key)
        else:
            table.put_item(Item=self._watched)
        return []

    def _archive(self) -> list[str]:
        """Objects with lines of others stay: rewriting the archive is not for a check to do."""
        s3, bucket, shared = self._target.client("s3"), self._target.parameter("archive-bucket"), []
        for route in ("readings", "events", "alerts", "status"):
            for key, lines in list(self._hops.objects(route)):
                if all(self._hops.is_nobodys(line) for line in lines):
                    s3.delete_object(Bucket=bucket, Key=key)
                else:
                    shared.append(f"s3://{bucket}/{key}: {sum(map(self._hops.is_ours, lines))} of {len(lines)} lines")
        return shared
