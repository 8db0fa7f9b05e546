"""Weights & Biases: GraphQL client, batched resolver, poller and webhook receiver."""
