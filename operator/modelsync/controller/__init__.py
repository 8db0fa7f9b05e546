"""Workqueue, reconciler, sweeper, kopf shell."""
