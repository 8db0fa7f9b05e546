"""Runs the operator: work queue, reconciler, sweeper, watches, probes and logs."""
