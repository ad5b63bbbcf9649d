"""Every topic name, built and taken apart here; used by device, bridge, Lambdas and infrastructure alike."""
import re

from contract.errors import BadPayload

SENSOR_DATA = "sensor/data"
SENSOR_ACK = "sensor/ack"
EDGE_DATA = "edge-data"
ALERTS = "edgecloud/alerts"
STATUS = "edgecloud/status"
RECEIPTS = "edgecloud/receipts"
SHADOW = "bridge"  # name of the device shadow that carries remote settings (contract/shadow.py)
LAN_PORT = 1884
MAX_DEVICE_BYTES = 128
_NOT_IN_A_NAME = re.compile("[/+#\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def check_device(name):
    """Return `name` if it can be a device id (it becomes a topic level), else raise BadPayload("bad device id")."""
    if not isinstance(name, str) or not name or len(name.encode("utf-8", "replace")) > MAX_DEVICE_BYTES:
        raise BadPayload("bad device id", "got %.60r, expected 1 to %d bytes of text" % (name, MAX_DEVICE_BYTES))
    if _NOT_IN_A_NAME.search(name):
        raise BadPayload("bad device id", "got %.60r, expected no '/', '+', '#' or control character" % name)
    return name


def sensor_data(device=None, base=SENSOR_DATA):
    """Topic that a device publishes to: `sensor/data`, or `sensor/data/<device>`."""
    return base if device is None else "%s/%s" % (base, check_device(device))


def device_of(topic, base=SENSOR_DATA):
    """Device named by a sensor topic's suffix; None for the bare topic; BadPayload("unknown topic") for any other."""
    if topic == base:
        return None
    if topic.startswith(base + "/"):
        return check_device(topic[len(base) + 1:])
    raise BadPayload("unknown topic", "got %.80r, expected %s or %s/<device>" % (topic, base, base))


def sensor_ack(device):
    """Topic on which the bridge says up to which seq a device's spool is on disk (QoS 1, retained)."""
    return "%s/%s" % (SENSOR_ACK, check_device(device))


def basic_ingest(rule, thing):
    """Basic Ingest topic that hands a message to one IoT rule without a messaging charge."""
    return "$aws/rules/%s/%s" % (rule, thing)


def status(thing):
    """Topic of a bridge's ledger."""
    return "%s/%s" % (STATUS, thing)


def receipts(thing):
    """Topic on which the cloud names the batches and alert messages that it has stored for a bridge."""
    return "%s/%s" % (RECEIPTS, thing)


def shadow(thing, operation, answer=None):
    """Topic of the thing's shadow `bridge`: where `get` and `update` are asked for, or where their answer comes."""
    topic = "$aws/things/%s/shadow/name/%s/%s" % (thing, SHADOW, operation)
    return topic if answer is None else "%s/%s" % (topic, answer)
