"""What AWS would bill for what ran here: usage is metered at each service and priced from prices.json."""
