"""One file per function: SQS, a table's stream or HTTP calls lambdas.<name>.handler; table.py and
table_*.py are what they share."""
