"""PURE. Observed world -> plan. No I/O, no clock, no randomness; imports only `modelsync.api`."""
