"""Which reading of the spool may be sent now: go-back-N with a bounded window; publisher.py asks before each publish.

Pure bookkeeping on sequence numbers, mids and monotonic times: no socket, no disk, no clock of its own.
"""


class Turn(object):
    """What is under way between a spool and whoever acknowledges it.

    window: messages that may be sent beyond the last acknowledged one. in_flight: of those, how many may wait for
    their PUBACK, so that the client library never holds a backlog. stall_s: an ack that stands still this long sends
    us back to it, with one message at a time (a probe) until it moves: a bridge that is away for a day finds its
    broker's queue filled with one repeat per stall_s, not with the window again and again.
    stuck_s: no PUBACK for this long means that the connection is no good, whatever it says.
    """

    def __init__(self, window=1000, in_flight=100, stall_s=5.0, stuck_s=30.0, by_broker=False):
        self._full_window = window
        self._in_flight = in_flight
        self._stall_s = stall_s
        self._stuck_s = stuck_s
        self._by_broker = by_broker
        self._window = window
        self._connected = False
        self._flying = {}  # mid -> seq
        self._confirmed = set()  # seqs whose PUBACK came out of turn (by_broker)
        self._moved_at = self._puback_at = 0.0
        self.next = 0
        self.highest_sent = 0

    def connected(self, first, now):
        """A new connection: go on from the last ack, whatever was sent on the one before."""
        self._connected = True
        self._flying.clear()
        self._confirmed.clear()
        self._window = self._full_window
        self._go_to(first, now)

    def disconnected(self):
        """Nothing can be sent until `connected`."""
        self._connected = False
        self._flying.clear()

    def _go_to(self, first, now):
        self.next = first
        self._moved_at = now

    def room(self, first, last):
        """How many messages may be sent now, from `next` on; first, last: as the spool holds them."""
        if not self._connected:
            return 0
        self.next = max(self.next, first)  # dropped or acknowledged meanwhile
        return max(0, min(last + 1 - self.next, first + self._window - self.next,
                          self._in_flight - len(self._flying)))

    def sent(self, seq, mid, first, now):
        """Reading `seq` was handed to the client library under `mid`."""
        if seq == first:
            self._moved_at = now
        if not self._flying:
            self._puback_at = now
        self._flying[mid] = seq
        self.next = seq + 1
        self.highest_sent = max(self.highest_sent, seq)

    def puback(self, mid, first, now):
        """The broker has message `mid`. With by_broker, returns the seq up to which all arrived (None: no news)."""
        seq = self._flying.pop(mid, None)
        self._puback_at = now
        if seq is None or not self._by_broker:
            return None
        self._confirmed.add(seq)
        upto = first - 1
        while upto + 1 in self._confirmed:
            upto += 1
            self._confirmed.remove(upto)
        return upto if upto >= first else None

    def acknowledged(self, now):
        """The ack moved: somebody takes our readings, so the whole window is open again."""
        self._moved_at = now
        self._window = self._full_window

    def stalled(self, first, now):
        """Go back to the last ack when it has stood still; True when that was so."""
        if self._by_broker or not self._connected or self.next <= first or now - self._moved_at < self._stall_s:
            return False
        self._window = 1
        self._go_to(first, now)
        return True

    def stuck(self, now):
        """True when PUBACKs are due and none came: the connection should be made anew."""
        return self._connected and bool(self._flying) and now - self._puback_at >= self._stuck_s
