"""The operator's Prometheus metrics. Imports only `api`; nothing may be decided here or depend on a metric."""
