"""How grave an incident is: said from what the bridge tells of it; used by lambdas/alert*.py, watch.py and the API.

All in widths of the normal band (high - low), so that it means the same for a thermometer and for a scale:

    info      a few readings, none far out
    warning   it goes on (3 anomalies or more), or stands still or has moved to another level, or is a whole width out
    critical  it goes on and was 5 widths out, or 100 anomalies: nobody should sleep through it

An incident grows: it may begin as info and end as critical.
"""
INFO, WARNING, CRITICAL = SEVERITIES = ("info", "warning", "critical")

LASTING = 3  # anomalies: one spike, or a spike and its neighbour, is what radio noise and loose plugs make
LONG = 100  # anomalies
OUT, FAR_OUT = 1, 5  # widths of the band beyond its edge
PERSISTENT = ("shift", "flat")  # reasons that speak of a state, not of a moment


def severity(count, reason, peak, low=None, high=None):
    """One of SEVERITIES. count, reason, peak: as the bridge's incident has them; low, high: the normal band, Decimals,
    None where the detector could not say (the severity then rests on the count and the reason)."""
    out = widths_out(peak, low, high)
    lasting = count >= LASTING
    if count >= LONG or (lasting and out is not None and out >= FAR_OUT):
        return CRITICAL
    if lasting or reason in PERSISTENT or (out is not None and out >= OUT):
        return WARNING
    return INFO


def widths_out(peak, low, high):
    """How far `peak` lies outside of low..high, in widths of that band: 0 inside; None without a band that has one."""
    if peak is None or low is None or high is None or not low < high:
        return None
    return max(low - peak, peak - high, 0) / (high - low)


def reaches(found, least):
    """True when the severity `found` is `least` or graver."""
    return SEVERITIES.index(found) >= SEVERITIES.index(least)
