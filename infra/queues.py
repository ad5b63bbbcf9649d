"""Queues between IoT rules and functions, each with its dead-letter queue; and the one alarm over all dead letters."""
from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.names import keep_logical_id

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


def consume(scope: Construct, title: str, source: sqs.IQueue, target: lambda_.Function, *, window_s: int) -> None:
    """Let the function take the queue's messages, up to ten at a time, answering for each one by itself."""
    lambda_.EventSourceMapping(
        scope, f"{title}Mapping", target=target, event_source_arn=source.queue_arn, batch_size=10,
        max_batching_window=cdk.Duration.seconds(window_s), report_batch_item_failures=True)


def dead_letter_alarm(scope: Construct, dead: Sequence[tuple[str, sqs.Queue]]) -> sns.Topic:
    """One alarm when any of these queues (at most ten) holds a message; returns the topic that it notifies."""
    metrics: dict[str, cloudwatch.IMetric] = {
        name: each.metric_approximate_number_of_messages_visible(
            statistic="Maximum", period=cdk.Duration.minutes(PERIOD_MINUTES)) for name, each in dead}
    waiting = cloudwatch.MathExpression(
        # An idle queue sends no metric: FILL, or the sum would have no value when one queue alone is idle.
        expression=f"SUM([{', '.join(f'FILL({name}, 0)' for name in metrics)}])", using_metrics=metrics,
        label="Dead letters", period=cdk.Duration.minutes(PERIOD_MINUTES))
    topic = sns.Topic(scope, "Operations", display_name="EdgeCloud operations")
    alarm = cloudwatch.Alarm(
        scope, "DeadLettersAlarm", metric=waiting, threshold=0, evaluation_periods=1,
        comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
        treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        alarm_description="Messages failed again and again and wait in a dead-letter queue of EdgeCloud")
    alarm.add_alarm_action(actions.SnsAction(topic))
    return topic
