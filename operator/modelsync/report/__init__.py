"""PURE. Reports a pass to users: `.status`, conditions, events, history. Must never decide anything."""
