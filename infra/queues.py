"""Queues between IoT rules and functions, each with its dead-letter queue, and an alarm for each of these."""
from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.names import keep_logical_id
from infra.settings import logical_id

MAX_RECEIVES = 10  # twice what AWS recommends at least: a table throttled for minutes should not dead-letter
DEAD_LETTER_DAYS = 14  # the longest there is
PERIOD_MINUTES = 5


def dead_letter_queue(scope: Construct, construct_id: str) -> sqs.Queue:
    """A queue that keeps what failed for 14 days."""
    dead = sqs.Queue(scope, construct_id, retention_period=cdk.Duration.days(DEAD_LETTER_DAYS),
                     encryption=sqs.QueueEncryption.SQS_MANAGED, enforce_ssl=True)
    keep_logical_id(dead)
    return dead


def queue(scope: Construct, title: str, *, timeout_s: int, window_s: int) -> tuple[sqs.Queue, sqs.Queue]:
    """`<title>Queue` and `<title>DeadLetters`, for a function with this timeout and batching window.

    Visibility is 6 timeouts and the window, as AWS asks, so that no message in work shows up a second time.
    """
    dead = dead_letter_queue(scope, f"{title}DeadLetters")
    waiting = sqs.Queue(
        scope, f"{title}Queue", visibility_timeout=cdk.Duration.seconds(6 * timeout_s + window_s),
        retention_period=cdk.Duration.days(DEAD_LETTER_DAYS), encryption=sqs.QueueEncryption.SQS_MANAGED,
        enforce_ssl=True, dead_letter_queue=sqs.DeadLetterQueue(queue=dead, max_receive_count=MAX_RECEIVES))
    keep_logical_id(waiting)
    return waiting, dead


def consume(scope: Construct, title: str, source: sqs.IQueue, target: lambda_.Function, *, window_s: int,
            max_concurrency: int | None = None) -> None:
    """Let the function take the queue's messages, up to ten at a time, answering for each one by itself.

    max_concurrency bounds the invocations at once; Lambda then polls with five at all times, and not with two.
    """
    lambda_.EventSourceMapping(
        scope, f"{title}Mapping", target=target, event_source_arn=source.queue_arn, batch_size=10,
        max_batching_window=cdk.Duration.seconds(window_s), max_concurrency=max_concurrency,
        report_batch_item_failures=True)


def dead_letter_alarms(scope: Construct, dead: Sequence[tuple[str, sqs.Queue]]) -> sns.Topic:
    """An alarm for each of these queues when it holds a message; returns the topic that they notify.

    One alarm over the sum would cost the same, and must not be: an idle queue sends no metric, and a FILL for it also
    fills the latest period, for which the metric is always late, so that the alarm may never go off.
    """
    topic = sns.Topic(scope, "Operations", display_name="EdgeCloud operations")
    for name, each in dead:
        alarm = cloudwatch.Alarm(
            scope, f"{logical_id(name)}DeadLettersAlarm", threshold=0, evaluation_periods=1,
            metric=each.metric_approximate_number_of_messages_visible(
                statistic="Maximum", period=cdk.Duration.minutes(PERIOD_MINUTES)),
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description=f"EdgeCloud {name}: messages failed again and again and wait in the dead-letter queue")
        alarm.add_alarm_action(actions.SnsAction(topic))
    return topic
