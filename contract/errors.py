"""The one error of the contract: raised by payloads.py and batch.py, written to the dead-letter table by the bridge."""


class BadPayload(ValueError):
    """A message that breaks the contract.

    reason: a short, stable phrase to count by ("broken JSON", "number out of range", ...).
    detail: what was got and what was expected, bounded in length.
    """

    def __init__(self, reason, detail=""):
        super(BadPayload, self).__init__("%s: %s" % (reason, detail) if detail else reason)
        self.reason = reason
        self.detail = detail
