"""Repeats among messages without a spool, and among Kafka events: digests of what was committed; asked by bridge.py.

A message is a repeat when it is byte-equal to one committed in the last 10 minutes and can be told from its
neighbours (a seq, a sub-second timestamp, a Kafka offset); or when it is byte-equal to one of an earlier connection and
comes under the same packet id: MQTT redelivers what it holds for unacknowledged under its old packet id. The second
rule needs no sub-second stamp, and it holds as well when our acknowledgement was sent but lost.
"""
import hashlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable

WINDOW_S = 600.0
MAX_REMEMBERED = 100_000  # messages, about 30 MB; beyond ~160/s the window is shorter than 10 minutes
_DIGEST_BYTES = 16
_KEY_BYTES = _DIGEST_BYTES + 2  # with the packet id

NEW, POSSIBLE, REPEAT = "new", "possible_duplicates", "repeats"


class Repeats:
    """The committed messages of one kind of source; what `check` notes holds only after `keep`."""

    def __init__(self, stored: Iterable[tuple[int, bytes]], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._remembered: deque[tuple[float, int, bytes]] = deque()  # expiry, id on disk, keys end to end
        self._count: Counter[bytes] = Counter()
        self._earlier: set[bytes] = set()
        self._connection = -1
        self._staged: dict[bytes, None] = {}
        self._staged_digests: set[bytes] = set()
        self._redelivered: set[bytes] = set()
        for seen_id, keys in stored:
            self._remember(seen_id, keys)

    def _remember(self, seen_id: int, keys: bytes) -> None:
        self._remembered.append((self._clock() + WINDOW_S, seen_id, keys))
        self._count.update(_digests(keys))

    def _new_connection(self, connection: int) -> None:
        """All before is of an earlier connection, and its window begins anew: an outage does not use it up."""
        self._connection = connection
        expiry_s = self._clock() + WINDOW_S
        self._remembered = deque((expiry_s, seen_id, keys) for _, seen_id, keys in self._remembered)
        self._earlier = {key for _, _, keys in self._remembered for key in _split(keys)}

    def check(self, content: bytes, connection: int, packet_id: int, distinct: bool) -> str:
        """NEW, POSSIBLE (keep and count it) or REPEAT. distinct: no two different messages have these bytes."""
        if connection > self._connection:
            self._new_connection(connection)
        digest = hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()
        key = digest + packet_id.to_bytes(2, "big")
        known = digest in self._count or digest in self._staged_digests
        if known and distinct:
            return REPEAT
        if known and packet_id and key in self._earlier and key not in self._redelivered:
            self._redelivered.add(key)
            return REPEAT
        self._staged[key] = None
        self._staged_digests.add(digest)
        return POSSIBLE if known else NEW

    def staged(self) -> bytes:
        """Keys to commit with the rows; b"" for none."""
        return b"".join(self._staged)

    def outlived(self) -> int:
        """Entries up to this id can be deleted on disk. Asked only when messages come: an outage ages nothing."""
        now_s, last_id = self._clock(), 0
        while self._remembered and (self._remembered[0][0] < now_s or len(self._count) > MAX_REMEMBERED):
            _, last_id, keys = self._remembered.popleft()
            for digest in _digests(keys):
                self._count[digest] -= 1
                if self._count[digest] <= 0:
                    del self._count[digest]
        return last_id

    def keep(self, seen_id: int) -> None:
        """The staged keys are on disk under this id."""
        self._earlier -= self._redelivered
        if self._staged:
            self._remember(seen_id, self.staged())
        self.forget()

    def forget(self) -> None:
        """The staged keys are not on disk: the same messages will be asked about again."""
        self._staged.clear()
        self._staged_digests.clear()
        self._redelivered.clear()


def _split(keys: bytes) -> list[bytes]:
    return [keys[i:i + _KEY_BYTES] for i in range(0, len(keys), _KEY_BYTES)]


def _digests(keys: bytes) -> list[bytes]:
    return [keys[i:i + _DIGEST_BYTES] for i in range(0, len(keys), _KEY_BYTES)]
