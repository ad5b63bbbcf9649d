"""What a template sets of a delivery stream: AWS::KinesisFirehose::DeliveryStream properties in, StreamSettings for
firehose.py out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from local_cloud.errors import DeployError, Unsupported
from local_cloud.firehose_keys import Part, compile_prefix
from local_cloud.properties import flag, integer, refuse_unknown

WHERE = "AWS::KinesisFirehose::DeliveryStream"
_S3 = f"{WHERE}.ExtendedS3DestinationConfiguration"
_S3_HONOURED = {"BucketARN", "RoleARN", "Prefix", "ErrorOutputPrefix", "BufferingHints", "CompressionFormat",
                "CustomTimeZone", "FileExtension", "CloudWatchLoggingOptions", "EncryptionConfiguration",
                "ProcessingConfiguration", "DataFormatConversionConfiguration", "DynamicPartitioningConfiguration",
                "S3BackupMode"}
_DISABLED = {"ProcessingConfiguration": "record transformation",
             "DataFormatConversionConfiguration": "format conversion",
             "DynamicPartitioningConfiguration": "dynamic partitioning"}


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """One stream as the template wants it; `described` is what DescribeDeliveryStream answers of its destination."""

    bucket: str
    prefix: Part
    size_bytes: int
    interval_s: int
    gzip: bool
    extension: str
    zone: tzinfo
    described: Mapping[str, Any]


def settings_from(properties: Mapping[str, Any]) -> StreamSettings:
    """Read the properties; Unsupported or DeployError name what cannot be honoured."""
    kind = properties.get("DeliveryStreamType", "DirectPut")
    if kind != "DirectPut":
        raise Unsupported(f"DeliveryStreamType: {kind} is not emulated, only DirectPut is")
    s3 = properties.get("ExtendedS3DestinationConfiguration")
    if s3 is None:
        raise Unsupported("ExtendedS3DestinationConfiguration: the only destination that is emulated; it is missing")
    refuse_unknown(_S3, s3, _S3_HONOURED)
    _refuse_enabled(s3)
    hints = s3.get("BufferingHints", {})
    compression = s3.get("CompressionFormat", "UNCOMPRESSED")
    if compression not in ("GZIP", "UNCOMPRESSED"):
        raise Unsupported(f"CompressionFormat: {compression} is not emulated; GZIP and UNCOMPRESSED are")
    if "ErrorOutputPrefix" in s3:
        compile_prefix(s3["ErrorOutputPrefix"], error_type="processing-failed")
    return StreamSettings(
        bucket=s3["BucketARN"].rpartition(":")[2], prefix=compile_prefix(s3.get("Prefix", "")),
        size_bytes=integer(f"{_S3}.BufferingHints.SizeInMBs", hints.get("SizeInMBs", 5), 1, 128) * 1024 * 1024,
        interval_s=integer(f"{_S3}.BufferingHints.IntervalInSeconds", hints.get("IntervalInSeconds", 300), 0, 900),
        gzip=compression == "GZIP", extension=s3.get("FileExtension", ".gz" if compression == "GZIP" else ""),
        zone=_zone(s3.get("CustomTimeZone", "UTC")),
        described={name: s3[name] for name in ("BucketARN", "RoleARN", "Prefix", "ErrorOutputPrefix",
                                               "BufferingHints", "CompressionFormat") if name in s3})


def _refuse_enabled(s3: Mapping[str, Any]) -> None:
    for name, what in _DISABLED.items():
        if name in s3 and flag(f"{_S3}.{name}.Enabled", s3[name].get("Enabled", False)):
            raise Unsupported(f"{name}: {what} is not emulated; disable it")
    if s3.get("S3BackupMode", "Disabled") != "Disabled":
        raise Unsupported("S3BackupMode: the source backup is not emulated; disable it")


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise DeployError(f"CustomTimeZone: {name!r} is no time zone known to this machine") from error
