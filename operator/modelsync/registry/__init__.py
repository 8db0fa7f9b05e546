"""Weights & Biases: GraphQL client, batched resolver, poller, webhook receiver."""
